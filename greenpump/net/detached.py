"""Connections without a task: ``detach_until_readable``.

A server of a hundred thousand idle connections need not keep a stack for each. A detached one holds
its Socket, its Pollable and a task that has not started: the pollable's reader slot has it, the hub
readies whatever sits there, and a worker runs it like any new task. Resident memory is 0.56 KiB
each (``bench memory``, x86-64, 3.11), of which the task is 208 bytes, the Socket 160, the Pollable
128, two ints 64. So the task has the connection itself in place of a tuple of arguments.

One that persists needs no switch either: the worker that ran its function takes the next task, on
the same stack, which the cache still has. So it is also the fastest way to serve messages, the more
connections the more (docs/performance.md).

Invariants
----------
1. The registration keeps a detached connection alive: hub's table → pollable → task → socket.
2. The task stands in the slot only when the kernel had nothing to read (asked level-triggered,
   since the edge of what is already there has passed), or when the registration is made with it,
   whose first edge tells what is there.
3. The edge goes to the task and not into the flag, so the worker puts itself into the flag before
   ``fn`` runs: its first ``recv`` must try.
4. Closing readies the task like any waiter. It finds the socket closed and ends: ``fn`` is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from functools import lru_cache, partial
from sys import _getframe
from types import CodeType, FrameType
from typing import Any, Self

from ..hub.interrupt import calls_user_code
from ..hub.local import this_hub
from ..hub.task import Task, new_task
from .base import CLOSED, BaseSocket

Site = tuple[CodeType, int]


class Detachable(BaseSocket):
    """A socket whose connection can do without a task."""

    __slots__ = ()

    def detach_until_readable(self, fn: Callable[[Self], object], *, persist: bool = False) -> None:
        """Hold no task for this connection until bytes or EOF arrive; then spawn ``fn(conn)``.

        It runs in a new task on the hub that polls the fd, with a copy of the caller's contextvars
        context, also when bytes are there already. The caller should end soon after: that frees its
        task. Nobody else may receive meanwhile; sending is fine. ``close`` drops ``fn``, a deadline
        doesn't end the waiting. Doesn't park.

        With ``persist`` the task waits again, without a stack, each time that ``fn`` has returned:
        ``fn(conn)`` is called for whatever comes or is left, one call after the other, until the
        connection is closed, which is up to ``fn`` (at the end of the stream at the latest, or it
        is called for that again and again), until ``fn`` raises, or until it detaches the
        connection to another function.

        Raises TypeError when ``fn`` isn't callable, OSError (EBADF) when closed, RuntimeError when
        it is detached already or a task waits to receive. Source: libevent's EV_PERSIST.
        """
        if not callable(fn):
            raise TypeError(f"detach_until_readable needs a callable, not {fn!r}")
        self._alive()
        self._detach(fn, persist, site_of(_getframe(1)))

    def _detach(
        self, fn: Callable[[Any], object], persist: bool, site: Site | None, there: bool = False
    ) -> None:
        """``detach_until_readable``, called at ``site``; ``there`` is something already."""
        context = copy_context()
        if context:  # an idle connection need not keep an empty one
            fn = _InContext(fn, context)
        pollable = self._pollable
        hub = this_hub()
        registered = not pollable.hub.closed
        owner = pollable.hub if registered else hub
        task = new_task(owner, fn, self, None, None, site)
        task.arrival = pollable
        task.persists = persist
        if owner is hub:
            pollable.refuse_if_awaited()
            self._stand_by(task, registered, there)
        else:
            owner.post(partial(self._stand_by, task, True, there))
        caller = hub.current
        if caller.arrival is pollable:
            caller.persists = False  # it hands the connection over
        self.detached = True

    def _stand_by(self, task: Task[Any], registered: bool, there: bool) -> None:
        """Put the task into the reader's slot, or ready it if there is something. Owning hub."""
        pollable = self._pollable
        if pollable is CLOSED:
            return  # while the other hub's step was on its way
        if there or (registered and (pollable.reader is not None or pollable.has_more())):
            if not registered:
                pollable.register(task.hub)
            task.hub.ready.append(task)
            return
        pollable.reader = task
        if not registered:
            try:
                pollable.register(task.hub)
            except BaseException:
                pollable.reader = None
                raise
        task.wait = pollable


class Wrapper:
    """A detached connection's function, and what is to be done around each call of it.

    Not a ``partial``: from CPython 3.13 on one of a partial takes over its parts, and forgets what
    a subclass does.
    """

    # By this name the task goes by that of the program's function (hub/task.py).
    __slots__ = ("__wrapped__",)

    def __init__(self, fn: Callable[[Any], object]) -> None:
        self.__wrapped__ = fn


class _InContext(Wrapper):
    """Each call runs in a new copy of a context."""

    __slots__ = ("context",)

    def __init__(self, fn: Callable[[Any], object], context: Context) -> None:
        super().__init__(fn)
        self.context = context

    @calls_user_code
    def __call__(self, conn: Any, /) -> object:
        return self.context.copy().run(self.__wrapped__, conn)


def site_of(frame: FrameType) -> Site:
    """Where ``frame`` is at: one tuple for all connections that are detached at the same place."""
    return _site(frame.f_code, frame.f_lasti)


@lru_cache(256)
def _site(code: CodeType, lasti: int) -> Site:
    return code, lasti
