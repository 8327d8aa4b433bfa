"""``races``: one test under many seeds, to find the interleaving in which it fails.

    @races(seeds=200)
    def test_nobody_is_left_waiting():
        ...

Invariants
----------
1. Each seed starts from the same state: a virtual clock, a schedule of its own, and no task that
   was not there before the first.
2. A lost wake-up is no hang: when nothing is ready, no deadline lies ahead and nobody waits for an
   fd or an offloaded call, it is a Deadlock at once. (A hub in production must hope for other
   threads and for signal handlers, pytest-timeout's for one. Those have no seed, so here they are
   no hope.) If that helps nobody, because a Group goes on waiting for a task that was claimed and
   never woken, and which no cancel reaches, all the others get one, too.
3. Nothing that went wrong is passed over: neither an error that nobody joined a task for, nor a
   task that has not ended.
4. The seeds are the same in every run, so CI doesn't turn red by itself; GREENPUMP_SEEDS=100000
   goes further when you hunt, and GREENPUMP_SEED=17 replays that one.

Rejected: new seeds in every run (a red CI that nobody's change has caused); one task for the body,
with the loop outside (a Deadlock belongs into the body, where the test can expect it).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec

from ..errors import Deadlock
from ..hub.deadlock import fd_waiters
from ..hub.interrupt import calls_user_code
from ..hub.local import this_hub
from ..hub.scope import move_on_after
from ..hub.stacks import describe_tasks, heading
from ..hub.timers import FAR
from .clock import virtual_clock
from .seeded import number_in, seed_asked_for, seeded

if TYPE_CHECKING:
    from ..hub.hub import Hub
    from ..hub.task import Task

P = ParamSpec("P")

SEEDS: Final = "GREENPUMP_SEEDS"
"""The environment variable that says how many seeds are tried."""

END_GRACE: Final = 60.0
"""Virtual seconds that tasks have to end, once cancelled, after a seed has failed."""


def races(seeds: int = 100) -> Callable[[Callable[P, object]], Callable[P, None]]:
    """``@races(seeds=200)`` above a test: run it under the seeds 0 to 199, in virtual time.

    The first seed that fails ends the run: the test's exception gets a note with the seed and the
    line that replays it. It fails, too, when a task fails and nobody takes notice (its error is
    raised), or has not ended when the test has (AssertionError). A test that waits for ever gets
    Deadlock.

    pytest makes fixtures once for all seeds: what a seed needs afresh is made in the test. The
    environment variable GREENPUMP_SEED runs one seed alone, GREENPUMP_SEEDS that many of them.

    Raises ValueError for less than one seed. Parks. Source: shuttle's check_random (Rust), Go's
    ``go test -race -count=n``.
    """
    if not isinstance(seeds, int):
        raise TypeError(f"races is used as @races() or @races(seeds=200), not with {seeds!r}")
    if seeds < 1:
        raise ValueError(f"races needs at least one seed: {seeds}")

    def decorate(test: Callable[P, object]) -> Callable[P, None]:
        @wraps(test)
        def hunt(*args: P.args, **kwargs: P.kwargs) -> None:
            one = seed_asked_for()
            many = number_in(SEEDS) or seeds
            for seed in range(many) if one is None else (one,):
                with virtual_clock(), seeded(seed), _deadlock_at_once(), _nothing_passed_over():
                    test(*args, **kwargs)

        calls_user_code(hunt)
        return hunt

    return decorate


@contextmanager
def _deadlock_at_once() -> Iterator[None]:
    """Have the hub of a virtual clock report a deadlock without asking threads and handlers."""
    hub = this_hub()
    jump = hub.autojump
    assert jump is not None
    told = False

    def jump_or_report() -> bool:
        nonlocal told
        if jump():
            return True
        if (
            hub.externals
            or hub.main.wait is None
            or hub.timers.next_deadline() != FAR
            or fd_waiters(hub)
        ):
            return False
        if not told:
            told = True
            report = "all tasks are asleep and none can wake another\n\n" + describe_tasks(hub)
            _resume(hub.main, Deadlock(report))
            return True
        for task in hub.live_tasks():
            if task.glet is not None:
                _resume(task, Deadlock(f"asleep for ever, and not to be cancelled: {task!r}"))
        return True

    hub.autojump = jump_or_report
    try:
        yield
    finally:
        hub.autojump = jump


@contextmanager
def _nothing_passed_over() -> Iterator[None]:
    """Raise what nobody else does: errors of tasks that nobody joined, and tasks left over."""
    hub = this_hub()
    before = set(hub.live_tasks())
    with _unobserved() as errors:
        try:
            yield
        except BaseException as error:
            _end_tasks(hub, before)
            for task, cause in errors:
                error.add_note(f"before that, task {task.name} had failed: {cause!r}")
            raise
        left = [heading(task) for task in hub.live_tasks() if task not in before]
        _end_tasks(hub, before)
    if len(errors) > 1:
        raise BaseExceptionGroup("tasks failed, and nobody joined them", [e for _, e in errors])
    for _, cause in errors:
        raise cause
    if left:
        raise AssertionError("the test has ended, but not its tasks:\n" + "".join(left))


@contextmanager
def _unobserved() -> Iterator[list[tuple[Task[Any], BaseException]]]:
    """Collect the errors that would go to ``greenpump.excepthook``."""
    package: Any = sys.modules["greenpump"]
    errors: list[tuple[Task[Any], BaseException]] = []
    hook = package.excepthook
    package.excepthook = lambda task, error: errors.append((task, error))
    try:
        yield errors
    finally:
        package.excepthook = hook


def _resume(task: Task[Any], error: BaseException) -> None:
    """Raise ``error`` in a parked task, also in one that its place will not let go."""
    if not task.abandon_wait(error):
        task.wait = None
        task.trouble = error
        task.hub.ready.append(task)


def _end_tasks(hub: Hub, before: set[Task[Any]]) -> None:
    """Cancel what the test has left, and wait until it has ended."""
    with move_on_after(END_GRACE):
        while left := [task for task in hub.live_tasks() if task not in before]:
            for task in left:
                task.cancel("the test has ended")
            for task in left:
                task.join()
        return
    for task in left:
        if not task.done:
            _resume(task, Deadlock(f"cancelled in vain: {task!r}"))
            task.join()
