"""Connections without a task: ``detach_until_readable``.

A server of a hundred thousand idle connections need not keep a stack for each. A detached one holds
its Socket, its Pollable and a task that has not started: the pollable's reader slot has it, the hub
readies whatever sits there, and a worker runs it like any new task. Measured with 5,000 socketpairs
and TCP connections (x86-64, 3.11): 577 bytes of RSS each, of which the task is 192, Socket and
Pollable 112 each, the arguments' tuple 56, two ints 64.

Invariants
----------
1. The registration keeps a detached connection alive: hub's table → pollable → task → socket.
2. The task stands in the slot only when the kernel had nothing to read (asked level-triggered,
   since the edge of what is already there has passed), or when the registration is made with it,
   whose first edge tells what is there.
3. The edge goes to the task and not into the flag, so the flag is set before ``fn`` runs: its first
   ``recv`` must try.
4. Closing readies the task like any waiter. It finds the socket closed and ends: ``fn`` is dropped.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import lru_cache, partial
from sys import _getframe
from types import CodeType
from typing import Any, Self

from greenlet import getcurrent

from ..hub.interrupt import calls_user_code
from ..hub.local import this_hub
from ..hub.pollable import READ, YES
from ..hub.task import Task, new_task
from .base import CLOSED, BaseSocket


class Detachable(BaseSocket):
    """A socket whose connection can do without a task."""

    __slots__ = ()

    def detach_until_readable(self, fn: Callable[[Self], object]) -> None:
        """Hold no task for this connection until bytes or EOF arrive; then spawn ``fn(conn)``.

        It runs in a new task on the hub that polls the fd, with a copy of the caller's contextvars
        context, also when bytes are there already. The caller should end soon after: that frees its
        task. Nobody else may receive meanwhile; sending is fine. ``close`` drops ``fn``, a deadline
        doesn't end the waiting. Doesn't park.

        Raises TypeError when ``fn`` isn't callable, OSError (EBADF) when closed, RuntimeError when
        it is detached already or a task waits to receive.
        """
        if not callable(fn):
            raise TypeError(f"detach_until_readable needs a callable, not {fn!r}")
        self._alive()
        frame = _getframe(1)
        context: Context | None = copy_context()
        if not context:
            context = None  # an idle connection need not keep an empty one
        pollable = self._pollable
        hub = this_hub()
        registered = not pollable.hub.closed
        owner = pollable.hub if registered else hub
        site = _site(frame.f_code, frame.f_lasti)
        task = new_task(owner, _arrived, (self, fn), None, context, site)
        if owner is hub:
            if pollable.reader is not None or any(
                seat.direction == READ for seat in pollable.crowd or ()
            ):
                raise RuntimeError(
                    f"fd {pollable.fd} is detached already, or a task waits to receive from it"
                )
            self._stand_by(task, registered)
        else:
            owner.post(partial(self._stand_by, task, True))
        self.detached = True

    def _stand_by(self, task: Task[Any], registered: bool) -> None:
        """Put the task into the reader's slot, or ready it if there is something. Owning hub."""
        pollable = self._pollable
        if registered:
            if pollable is CLOSED:
                return  # closed while the other hub's step was on its way
            if pollable.reader is not None or (pollable.readable and _readable(pollable.fd)):
                task.hub.ready.append(task)
                return
            pollable.drained()
            pollable.reader = task
        else:
            pollable.reader = task
            try:
                pollable.register(task.hub)
            except BaseException:
                pollable.reader = None
                raise
        task.wait = pollable
        pollable.ask = None  # its poller is bigger than all the rest; the next probe makes another


@calls_user_code
def _arrived(sock: BaseSocket, fn: Callable[[Any], object]) -> object:
    """The detached connection's task, when it starts."""
    pollable = sock._pollable
    if pollable is CLOSED:
        return None
    getcurrent().task.fn = fn  # type: ignore[attr-defined]  # people know it by fn's name
    pollable.readable = YES
    return fn(sock)


def _readable(fd: int) -> bool:
    """Ask the kernel, level-triggered, with a poller that is gone afterwards."""
    poller = select.poll()
    poller.register(fd, select.POLLIN | select.POLLRDHUP)
    return bool(poller.poll(0))


@lru_cache(256)
def _site(code: CodeType, lasti: int) -> tuple[CodeType, int]:
    """One tuple for all connections that were detached at the same place."""
    return code, lasti
