"""Threads: hubs side by side, and the start and end of a program.

Invariants
----------
1. A started task never leaves its hub (a greenlet can't change threads); one that was spawned on
   ANY and has not started may be taken by any hub of the fleet.
2. A task spawned on ANY stands in one hub's ``stealable``. A hub looks through all of them after
   it has announced its sleep, and who adds one wakes a sleeper afterwards: none is left lying while
   a hub sleeps.
3. ``run`` returns only when every task of every hub of its fleet has ended, or was reported.
4. What ends a program (Ctrl-C, SystemExit, HubError) on another hub is raised in ``run``'s main.

With the GIL more hubs don't make a program faster (two were measured twice as slow as one: each
takes the GIL from the other at every syscall); then use processes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from sys import _getframe
from typing import Any, Final, ParamSpec, TypeVar

from ..errors import HubError
from .fork import after_in_child
from .hub import Hub
from .interrupt import calls_user_code
from .local import fleet, local, this_hub
from .scope import shield
from .task import Task, new_task
from .wait import wake

P = ParamSpec("P")
T = TypeVar("T")

END_GRACE: Final = 10.0
"""Seconds that tasks have, once cancelled, to end with their hub."""


class Any_:
    """The type of ANY."""

    def __repr__(self) -> str:
        return "greenpump.ANY"


ANY: Final = Any_()
"""For ``spawn_on``: the hub that has least to do."""


def spawn_on(hub: Hub | Any_, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
    """Start a task on another hub, or with ``ANY`` on the one that has least to do.

    As ``spawn`` in all else. Callable from any thread, also one without a hub. A task on ``ANY``
    that has not started is taken over by whichever hub of ``run(hubs=n)`` gets idle first; without
    ``run`` it goes to this thread's hub. Raises HubError when ``hub`` has ended, TypeError.
    """
    if not callable(fn):
        raise TypeError(f"spawn_on needs a callable, not {fn!r}")
    frame = _getframe(1)
    target = _least_loaded() if hub is ANY else hub
    if not isinstance(target, Hub):
        raise TypeError(f"spawn_on needs a hub or ANY, not {hub!r}")
    if target.closed:
        raise HubError(f"the hub of {target.thread.name} has ended: nothing can run on it")
    context = copy_context()
    task = new_task(target, fn, args, kwargs or None, context, (frame.f_code, frame.f_lasti))
    if hub is ANY and target.fleet:
        target.stealable.append(task)
        sleeper = next((other for other in (target, *fleet) if other.sleeping), target)
        sleeper.nudge()
    elif getattr(local, "hub", None) is target:
        target.ready.append(task)
    else:
        target.post(task)
    return task


def _least_loaded() -> Hub:
    return min(list(fleet), key=Hub.load, default=None) or this_hub()


def hubs() -> list[Hub]:
    """The hubs of the running ``run``, its own first; without ``run``, this thread's."""
    return list(fleet) or [this_hub()]


@calls_user_code
def run(main: Callable[P, T], /, *args: P.args, hubs: int = 1, **kwargs: P.kwargs) -> T:  # type: ignore[valid-type]
    """Run ``main(*args, **kwargs)`` as the main task, with ``hubs`` hubs, and return its result.

    The calling thread hosts the first hub, new threads the others. When ``main`` returns or raises,
    all other tasks are cancelled and waited for, then every fd of the hubs is closed. Needed only
    for more than one hub, or for an orderly end: without it a thread's hub appears at first use.

    Raises what ``main`` raises, RuntimeError inside a task or another ``run``, HubError when tasks
    have not ended ten seconds after they were cancelled. Parks.
    """
    if hubs < 1:
        raise ValueError(f"run needs at least one hub: hubs={hubs}")
    first = this_hub()
    if fleet or first.current is not first.main:
        raise RuntimeError("run() was called inside another run() or inside a task")
    helpers: list[_Helper] = []
    _join_fleet(first)
    try:
        for number in range(2, hubs + 1):
            helpers.append(_Helper(number, first))
        result = main(*args, **kwargs)
    except BaseException as error:
        for problem in _end(first, helpers):
            error.add_note(problem)
        raise
    problems = _end(first, helpers)
    if problems:
        raise HubError("\n".join(problems))
    return result


def _end(first: Hub, helpers: list[_Helper]) -> list[str]:
    """Cancel and wait for all tasks, end the threads, close the hubs; what went wrong."""
    for helper in helpers:
        helper.stop()
    problems = end_tasks(first)
    for helper in helpers:
        problems += helper.join()
    fleet.remove(first)
    first.close()
    return problems


def end_tasks(hub: Hub) -> list[str]:
    """Cancel every task of this thread's hub and wait for them; what is to be said of the rest."""
    with shield(END_GRACE):
        while live := hub.live_tasks():
            for task in live:
                task.cancel("its hub ends")
            for task in live:
                task.join()
    return [
        f"task {task.name} has not ended {END_GRACE} s after it was cancelled: {task.state()}; "
        f"it was spawned at {task.spawned_at()}"
        for task in hub.live_tasks()
    ]


def _join_fleet(hub: Hub) -> None:
    hub.fleet = fleet
    fleet.append(hub)


class _Helper:
    """One further hub and its thread."""

    def __init__(self, number: int, first: Hub) -> None:
        self._first = first
        self._problems: list[str] = []
        self._stopping = False
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._main, name=f"hub-{number}", daemon=True)
        self._thread.start()
        self._up.wait()

    def stop(self) -> None:
        self.hub.post(self._stop)

    def join(self) -> list[str]:
        self._thread.join()
        return self._problems

    def _main(self) -> None:
        self.hub = hub = this_hub()
        _join_fleet(hub)
        self._up.set()
        while not self._stopping:
            try:
                hub.wait(hub.prepare(), self)
            except BaseException as error:
                self._first.post(partial(self._first.to_main, error))
        self._problems = end_tasks(hub)
        fleet.remove(hub)
        hub.close()

    def _stop(self) -> None:
        self._stopping = True
        main = self.hub.main
        if main.wait is self:
            wake(main)

    def abandon(self, task: Task[Any]) -> bool:
        return True

    def reason(self, task: Task[Any]) -> str:
        return "the end of run()"


os.register_at_fork(after_in_child=after_in_child)
