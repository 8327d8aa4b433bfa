"""Threads: hubs side by side, and the start and end of a program.

Invariants
----------
1. A started task never leaves its hub (a greenlet can't change threads); one that was spawned on
   ANY and has not started may be taken by any hub of the fleet.
2. A task spawned on ANY stands in one hub's ``stealable``. A hub looks through all of them after
   it has announced its sleep, and who adds one wakes a sleeper afterwards: none is left lying while
   a hub sleeps.
3. ``run`` returns only when every task of every hub of its fleet has ended, or was reported. All
   hubs go on scheduling until the last of them has no task left: who cleans up may need another.
   What that one is given after its own tasks have ended is cancelled in the next round; the last
   round is one in which no hub had a task. Unstarted tasks move no more while it goes on.
4. What ends a program (Ctrl-C, SystemExit, HubError) on another hub is raised in ``run``'s main;
   if that has returned already, by ``run`` itself.

With the GIL more hubs don't make a program faster (two were measured twice as slow as one: each
takes the GIL from the other at every syscall); then use processes.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from operator import index
from sys import _getframe
from typing import Any, Final, ParamSpec, TypeVar

from ..errors import HubError
from . import fork
from .hub import Hub
from .interrupt import calls_user_code
from .local import fleet, local, this_hub
from .scope import shield
from .spawning import yield_now
from .task import Task, new_task
from .timers import FAR
from .wait import wake

P = ParamSpec("P")
T = TypeVar("T")

END_GRACE: Final = 10.0
"""Seconds that tasks have, once cancelled, to end with their hub."""

_END_MARGIN: Final = 1.0
"""Seconds that another hub may be late with saying how its tasks ended."""


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
    ``run`` it goes to this thread's hub. Doesn't park. Raises HubError when ``hub`` has ended,
    TypeError. Source: loop.call_soon_threadsafe, trio.from_thread.
    """
    if not callable(fn):
        raise TypeError(f"spawn_on needs a callable, not {fn!r}")
    frame = _getframe(1)
    target = find_hub(hub)
    context = copy_context()
    task = new_task(target, fn, args, kwargs or None, context, (frame.f_code, frame.f_lasti))
    enqueue(task, hub)
    return task


def find_hub(hub: Hub | Any_) -> Hub:
    """Where a task for ``hub`` goes at first. Raises HubError when that has ended, TypeError."""
    target = _least_loaded() if hub is ANY else hub
    if not isinstance(target, Hub):
        raise TypeError(f"spawn_on needs a hub or ANY, not {hub!r}")
    if target.closed:
        raise _ended(target)
    return target


def enqueue(task: Task[Any], hub: Hub | Any_) -> None:
    """Let a new task of ``find_hub(hub)`` start. Raises HubError when its hub has ended."""
    target = task.hub
    if hub is ANY and target.fleet:
        target.stealable.append(task)
        sleeper = next((other for other in (target, *fleet) if other.sleeping), target)
        sleeper.nudge()
    elif getattr(local, "hub", None) is target:
        target.ready.append(task)
    else:
        target.post(task)
    # Who spawns adds first and looks afterwards; who ends a hub says so first and looks afterwards.
    if _withdrawn(task, target):
        raise _ended(target)


def _ended(hub: Hub) -> HubError:
    return HubError(f"the hub of {hub.thread.name} has ended: nothing can run on it")


def _withdrawn(task: Task[Any], hub: Hub) -> bool:
    """Take back a task that came too late to a hub that has ended."""
    if not hub.closed:
        return False
    line: deque[Any]
    for line in (hub.stealable, hub.inbox):
        with suppress(ValueError):
            line.remove(task)
            return True
    return False


def _least_loaded() -> Hub:
    return min(list(fleet), key=Hub.load, default=None) or this_hub()


def hubs() -> list[Hub]:
    """The hubs of the running ``run``, its own first; without it, this thread's. Doesn't park."""
    return list(fleet) or [this_hub()]


@calls_user_code
def run(main: Callable[P, T], /, *args: P.args, hubs: int = 1, **kwargs: P.kwargs) -> T:  # type: ignore[valid-type]
    """Run ``main(*args, **kwargs)`` as the main task, with ``hubs`` hubs, and return its result.

    The calling thread hosts the first hub, new threads the others. When ``main`` returns or raises,
    all other tasks are cancelled and waited for, then every fd of the hubs is closed. Needed only
    for more than one hub, or for an orderly end: without it a thread's hub appears at first use.

    Raises what ``main`` raises, and SystemExit or KeyboardInterrupt that ended a task. HubError
    when tasks have not ended ten seconds after they were cancelled (Ctrl-C shortens that); if
    ``main`` raised, its error has that as a note. OSError when there are no fds for another hub.
    RuntimeError inside a task or another ``run``: a process has one at a time. Parks.
    """
    if not callable(main):
        raise TypeError(f"run needs a callable, not {main!r}")
    if index(hubs) < 1:
        raise ValueError(f"run needs at least one hub: hubs={hubs}")
    first = this_hub()
    if first.current is not first.main:
        raise RuntimeError("run() was called inside a task; a program has one run(), in its main")
    _found_fleet(first)
    helpers: list[_Helper] = []
    try:
        for number in range(2, hubs + 1):
            helper = _Helper(number, first)
            helpers.append(helper)
            helper.start()
        result = main(*args, **kwargs)
    except BaseException as error:
        problems, late = _end(first, helpers)
        if late is None or isinstance(error, (KeyboardInterrupt, SystemExit)):
            late = error
        for problem in problems:
            late.add_note(problem)
        if late is error:
            raise
        raise late  # noqa: B904  its context is right: it happened while that one was handled
    problems, late = _end(first, helpers)
    if late is None and problems:
        raise HubError("\n".join(problems))
    if late is not None:
        for problem in problems:
            late.add_note(problem)
        raise late
    return result


def _found_fleet(first: Hub) -> None:
    nested = bool(first.fleet)
    if not nested:
        fleet.append(first)  # of two threads that do this at once, the first has won
        if fleet[0] is not first:
            fleet.remove(first)
    if nested or fleet[0] is not first:
        raise RuntimeError(
            f"run() was called inside another run(), that of {fleet[0].thread.name}: "
            "a process has one at a time"
        )
    first.fleet = fleet


# -- the end ---------------------------------------------------------------------------------------


def _end(first: Hub, helpers: list[_Helper]) -> tuple[list[str], BaseException | None]:
    """Cancel and wait for all tasks, end the threads, close the hubs.

    What is to be said of tasks that have not ended, and what ended the program meanwhile.
    """
    late: list[BaseException] = []
    limit = first.timers.after(END_GRACE)
    for helper in helpers:
        helper.stop()
    found = _end_tasks(first, limit, late.append)
    while True:
        for helper in helpers:
            if _impatient(late):
                helper.hurry()
            helper.wait_empty(limit + int(_END_MARGIN * 1e9), late.append)
        if _impatient(late):
            break
        found |= _end_tasks(first, limit, late.append)
        if not (found or any(helper.found for helper in helpers)) or limit <= first.timers.clock():
            break
        for helper in helpers:
            helper.stop()
        found = False
    problems = _describe_live(first)
    for helper in helpers:
        problems += helper.leave()
    _receive(first, late.append)
    fleet.remove(first)
    first.close()
    return problems, late[0] if late else None


def _end_tasks(hub: Hub, limit: int, tell: Callable[[BaseException], None]) -> bool:
    """Cancel every task of this thread's hub and wait until they have ended; if there were any.

    What is raised in the main task meanwhile is told. Whoever presses Ctrl-C won't wait longer.
    """
    hub.ending = True
    found = False
    while (left := limit - hub.timers.clock()) > 0:
        try:
            with shield(left / 1e9):
                while live := hub.live_tasks():
                    found = True
                    for task in live:
                        task.cancel("its hub ends")
                    for task in live:
                        task.join()
            return found
        except BaseException as error:
            tell(error)
            if isinstance(error, KeyboardInterrupt):
                break
    return found


def _impatient(late: list[BaseException]) -> bool:
    return any(isinstance(error, KeyboardInterrupt) for error in late)


def _describe_live(hub: Hub) -> list[str]:
    return [
        f"task {task.name} was cancelled, {END_GRACE} s ago or before another Ctrl-C, and has not "
        f"ended: {task.state()}; it was spawned at {task.spawned_at()}"
        for task in hub.live_tasks()
    ]


def _receive(hub: Hub, tell: Callable[[BaseException], None]) -> None:
    """Let what is on its way to the main task arrive."""
    try:
        with shield():
            hub.ready.append(hub.root_task)
            yield_now()
    except BaseException as error:
        tell(error)


class _Signal:
    """What a hub's main task waits for, and another thread gives it."""

    def __init__(self, hub: Hub, what: str) -> None:
        self._hub = hub
        self._what = what
        self.given = False

    def give(self) -> None:
        """Callable from any thread."""
        self._hub.post(self._arrive)

    def _arrive(self) -> None:
        self.given = True
        if self._hub.main.wait is self:
            wake(self._hub.main)

    def park(self, deadline: int = FAR) -> bool:
        """Park this hub's main task until the signal is given; False when ``deadline`` passed."""
        return self.given or self._hub.wait(self._hub.prepare(), self, deadline)

    def abandon(self, task: Task[Any]) -> bool:
        return True

    def reason(self, task: Task[Any]) -> str:
        return self._what


class _Helper:
    """One further hub and its thread."""

    def __init__(self, number: int, first: Hub) -> None:
        self._first = first
        self._hub: Hub | None = None
        self._failure: BaseException | None = None
        self._problems: list[str] = []
        self._up = threading.Event()
        self._leaving = False
        self.found = False  # whether there were tasks to end, when it was last told to
        self._thread = threading.Thread(target=self._main, name=f"hub-{number}", daemon=True)
        self._empty = _Signal(first, f"the end of the tasks of hub-{number}")

    # -- run's side --------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread and wait until its hub is up. Raises what kept it from that."""
        self._thread.start()
        self._up.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Have it cancel its tasks and say when they have ended."""
        self.found = self._empty.given = False
        if self._hub is not None:
            self._stop.give()

    def hurry(self) -> None:
        """Have it wait no longer for its tasks."""
        hub = self._hub
        if hub is not None:
            hub.post(partial(hub.to_main, KeyboardInterrupt()))

    def wait_empty(self, limit: int, tell: Callable[[BaseException], None]) -> None:
        """Park until they have. (After a fork the thread is the parent's alone.)"""
        while self._thread.is_alive() and not self._empty.given:
            try:
                with shield():
                    if not self._empty.park(limit):
                        return
            except BaseException as error:
                tell(error)
                if isinstance(error, KeyboardInterrupt):
                    self.hurry()

    def leave(self) -> list[str]:
        """Have the hub closed and the thread ended; what is to be said of its tasks."""
        hub = self._hub
        if hub is None:
            return []
        self._leaving = True
        self._stop.give()
        self._thread.join(_END_MARGIN)
        if self._thread.is_alive():
            with suppress(ValueError):
                fleet.remove(hub)
            task = hub.current
            return [
                f"{self._thread.name} has not ended: task {task.name} holds it and does not park; "
                f"it was spawned at {task.spawned_at()}"
            ]
        return self._problems

    # -- the thread's side -------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            hub = this_hub()
            self._stop = _Signal(hub, "the end of run()")
            hub.fleet = fleet
            fleet.append(hub)
            self._hub = hub
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._up.set()
        self._serve_until(self._stop)
        while not self._leaving:
            self._stop.given = False
            self.found = _end_tasks(hub, hub.timers.after(END_GRACE), self._tell)
            self._empty.give()
            self._serve_until(self._stop)
        self._problems = _describe_live(hub)
        with suppress(ValueError):
            fleet.remove(hub)
        hub.close()

    def _serve_until(self, signal: _Signal) -> None:
        while not signal.given:
            try:
                signal.park()
            except BaseException as error:
                if self._first.closed:
                    raise  # in a child that a task of this thread forked
                self._tell(error)

    def _tell(self, error: BaseException) -> None:
        """What would end the program ends it in ``run``'s main."""
        error.told_to_main = False  # type: ignore[attr-defined]  # only this thread's was
        self._first.post(partial(self._first.to_main, error))


os.register_at_fork(
    before=fork.before, after_in_parent=fork.in_parent, after_in_child=fork.in_child
)
