"""What Go's context carries, found in the task itself.

A Go function takes a ``ctx`` to learn until when it may work, why it should stop, and what belongs
to the request. Here a task has all that, and nothing need be handed on:

=========================== ========================================================================
context.WithTimeout         ``with timeout(5):``, ``with move_on_after(5):``
context.WithCancel          ``with move_on_after() as scope:`` and ``scope.cancel()``
context.WithCancelCause     ``scope.cancel(error)``: the ``__cause__`` of the Cancelled, and of the
                            TimeoutError in its place; ``scope.cause``
context.WithoutCancel       ``with shield():``
ctx.Deadline                ``deadline()``, ``remaining()``
context.AfterFunc           ``after_cancel(scope, fn)``
context.WithValue           ``contextvars``: a task starts with a copy of its spawner's, and so does
                            an offloaded call, on whichever hub or thread it runs
one ctx for several tasks   ``with Group():`` inside the scope, whose cause its tasks see
=========================== ========================================================================

Invariants
----------
1. The task that is to call ``fn`` is made by ``after_cancel`` and lies in ``_job``. Whoever gets it
   out (``list.pop``, atomic with and without the GIL) decides: the hub starts it, ``stop`` and the
   end of the scope throw it away. So ``fn`` is called once at most, and never after a ``stop`` that
   returned True.
2. The chain of scopes belongs to the thread of its task: from another one a hook is put up and
   taken down by a step of hub code.

Rejected: a context object as a parameter (each function would need it to hand it on, and whoever
forgets it is not cancelled); calling ``fn`` where the cancel is (it may wait, and the canceller may
stand anywhere).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from sys import _getframe
from typing import Any, ParamSpec

from ..hub.local import hub_or_none, this_hub
from ..hub.scope import Hook, Scope
from ..hub.task import Task, new_task
from ..hub.timers import FAR
from ..hub.wait import wake
from .group import Group

P = ParamSpec("P")


def deadline() -> float:
    """When the scopes around here end, in seconds of ``time.monotonic()``; ``math.inf`` if never.

    The earliest one that no shield keeps out: ``conn.set_deadline(deadline())`` hands it on to a
    socket. Doesn't park. Source: Go's ctx.Deadline, trio.current_effective_deadline.
    """
    scope = this_hub().current.scope
    limit = FAR if scope is None else scope.earliest()
    return math.inf if limit == FAR else limit / 1e9


def remaining() -> float:
    """Seconds until the scopes around here end: ``math.inf`` if they never do, 0.0 if they have.

    0.0 also in a scope that was cancelled by hand. What is to be told to a peer, or to a call that
    takes a timeout of its own. Doesn't park. Source: Go's time.Until of a ctx.Deadline.
    """
    hub = this_hub()
    scope = hub.current.scope
    if scope is None:
        return math.inf
    if scope.cancelled_one() is not None:
        return 0.0
    limit = scope.earliest()
    return math.inf if limit == FAR else max(0, limit - hub.timers.clock()) / 1e9


def after_cancel(
    scope: Scope | Group, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs
) -> Callable[[], bool]:
    """Have ``fn(*args, **kwargs)`` called when ``scope`` is cancelled or its deadline passes.

    In a task of its own, on the hub of the scope's task and with a copy of the caller's
    contextvars: for what the cancel of a wait does not reach, as a thread that waits in C, or a
    peer that should be told. If the scope is cancelled already, that task starts now. A cancel and
    a deadline of a scope around it count as well, unless a shield is in between. When the block is
    left before any of them comes, ``fn`` is never called. Its error goes to ``excepthook``.

    Returns ``stop``: it takes ``fn`` back and returns True, or False when it was called, taken back
    or dropped before. Neither parks, and both can be called from any task and thread.

    Raises RuntimeError outside the block of ``scope``, TypeError when ``fn`` is not callable.
    Source: Go's context.AfterFunc.
    """
    if not callable(fn):
        raise TypeError(f"after_cancel needs a callable, not {fn!r}")
    if isinstance(scope, Group):
        scope = scope._scope
    owner = scope.task
    if owner is None:
        raise RuntimeError("after_cancel belongs inside the block of its scope: enter that first")
    frame = _getframe(1)
    site = (frame.f_code, frame.f_lasti)
    hook = _AfterCancel.__new__(_AfterCancel)
    hook._job = [new_task(owner.hub, fn, args, kwargs or None, copy_context(), site)]
    hook.task = owner
    hook.timer_at = FAR
    if hub_or_none() is not owner.hub:
        owner.hub.post(partial(hook.put_up_late, scope))
    elif not hook.put_up(scope):
        raise RuntimeError("after_cancel belongs inside the block of its scope: that was left")
    return hook.stop


class _AfterCancel(Hook):
    """A function that waits for a cancel."""

    __slots__ = ("_job",)
    _job: list[Task[Any]]

    def stop(self) -> bool:
        """What ``after_cancel`` returns."""
        if self._claim() is None:
            return False
        assert self.task is not None
        hub = self.task.hub
        if hub_or_none() is hub:
            self.take_down()
        else:
            hub.post(self.take_down)
        return True

    def put_up_late(self, scope: Scope) -> None:
        """``put_up`` for another thread, which can't be told that the scope has been left."""
        if self._job and not self.put_up(scope):
            self.dropped()

    def reached(self) -> None:
        task = self._claim()
        if task is not None:
            wake(task)

    def dropped(self) -> None:
        self._claim()

    def _claim(self) -> Task[Any] | None:
        try:
            return self._job.pop()
        except IndexError:
            return None
