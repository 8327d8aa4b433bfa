"""Waiters: what is the same for all that tasks stand in line for, asked of each of them."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

import pytest

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.hub.local import this_hub
from greenpump.hub.task import Task, new_task
from greenpump.hub.wait import wake
from greenpump.sync.barrier import Barrier
from greenpump.sync.condition import Condition
from greenpump.sync.mutex import Mutex
from greenpump.sync.rwmutex import RWMutex
from greenpump.sync.semaphore import Semaphore
from greenpump.sync.waiters import NOBODY_YET, Waiters
from greenpump.sync.waitgroup import WaitGroup
from greenpump.testing import virtual_clock, wait_all_parked

LONG = 30.0


class Kind(NamedTuple):
    """A primitive on which ``wait`` parks until somebody calls ``let_one_in``."""

    make: Callable[[], Waiters[Any]]
    wait: Callable[[Any, float | None], object]
    let_one_in: Callable[[Any], None]
    free: Callable[[Any], bool]  # nobody has anything of it (and the test's own is returned)


def locked_mutex() -> Mutex:
    mutex = Mutex()
    mutex.acquire()
    return mutex


def taken_semaphore() -> Semaphore:
    semaphore = Semaphore(3)
    semaphore.acquire(3)
    return semaphore


def written_rwmutex() -> RWMutex:
    rw = RWMutex()
    rw.acquire_write()
    return rw


def counting_group() -> WaitGroup:
    group = WaitGroup()
    group.add()
    return group


def wait_under_mutex(condition: Condition, timeout: float | None) -> bool:
    with condition:
        notified = condition.wait(timeout)
        assert condition._mutex.locked()
        return notified


def notify(condition: Condition) -> None:
    with condition:
        condition.notify()


def try_once(acquire: Callable[[], bool], release: Callable[[], None]) -> bool:
    if not acquire():
        return False
    release()
    return True


KINDS = {
    "mutex": Kind(
        locked_mutex,
        lambda mutex, timeout: mutex.acquire(timeout=timeout),
        Mutex.release,
        lambda mutex: try_once(mutex.try_acquire, mutex.release),
    ),
    "semaphore": Kind(
        taken_semaphore,
        lambda semaphore, timeout: semaphore.acquire(3, timeout=timeout),
        lambda semaphore: semaphore.release(3),
        lambda semaphore: semaphore.available == 3,
    ),
    "writer": Kind(
        written_rwmutex,
        lambda rw, timeout: rw.acquire_write(timeout=timeout),
        RWMutex.release_write,
        lambda rw: try_once(rw.try_acquire_write, rw.release_write),
    ),
    "condition": Kind(
        Condition,
        wait_under_mutex,
        notify,
        lambda condition: not condition._mutex.locked() and not condition._mutex._line,
    ),
    "waitgroup": Kind(
        counting_group,
        WaitGroup.wait,
        WaitGroup.done,
        lambda group: group._count == 0,
    ),
}

HANDED_ON = [name for name in KINDS if name != "waitgroup"]
"""Those of which one waiter at a time is let in."""

kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
handed_on = pytest.mark.parametrize("kind", [KINDS[n] for n in HANDED_ON], ids=HANDED_ON)


def waiting(waiters: Waiters[Any]) -> int:
    """How many tasks it remembers."""
    return len(waiters._line) + len(waiters._granted)


# -- in the order of coming ----------------------------------------------------------------------


@handed_on
def test_they_are_let_in_one_by_one_in_the_order_of_coming(kind: Kind) -> None:
    waiters, order = kind.make(), []

    def waiter(number: int) -> None:
        kind.wait(waiters, None)
        order.append(number)

    tasks = [gp.spawn(waiter, number) for number in range(10)]
    wait_all_parked()
    for count in range(10):
        assert order == list(range(count))
        assert len(waiters._line) == 10 - count
        kind.let_one_in(waiters)
        wait_all_parked()
    assert all(task.done for task in tasks)
    assert waiting(waiters) == 0


def test_all_that_wait_for_a_group_are_let_in_at_once() -> None:
    group, order = counting_group(), []

    def waiter(number: int) -> None:
        group.wait()
        order.append(number)

    tasks = [gp.spawn(waiter, number) for number in range(10)]
    wait_all_parked()
    group.done()
    for task in tasks:
        task.join()
    assert order == list(range(10))
    assert waiting(group) == 0


class CountingLine(OrderedDict[Task[Any], Any]):
    """Counts what is asked of it."""

    operations = 0

    def popitem(self, last: bool = True) -> tuple[Task[Any], Any]:
        self.operations += 1
        return super().popitem(last)

    def values(self) -> Any:
        self.operations += 1
        return super().values()


N = 100_000


@pytest.mark.parametrize("name", ["readers", "semaphore", "condition", "waitgroup", "barrier"])
def test_a_hundred_thousand_are_let_in_in_linear_time(name: str, hub: Hub) -> None:
    waiters: Waiters[Any]
    let_in: Callable[[], object]
    want: object = True
    if name == "readers":
        waiters = rw = written_rwmutex()
        let_in, want = rw.release_write, "read"
    elif name == "semaphore":
        waiters = semaphore = Semaphore(N)
        semaphore.acquire(N)
        let_in, want = (lambda: semaphore.release(N)), 1
    elif name == "condition":
        waiters = condition = Condition()
        condition.acquire()
        let_in = condition.notify_all
    elif name == "waitgroup":
        waiters = group = counting_group()
        let_in = group.done
    else:
        waiters = barrier = Barrier(N + 1)
        let_in = barrier.wait
    waiters._open_line()
    waiters._line = line = CountingLine()
    ran: list[None] = []
    # Not started, each: waking one starts it. (A hundred thousand parked ones took 700 MB.)
    for _ in range(N):
        line[new_task(hub, ran.append, (None,), None, None, None)] = want
    let_in()
    assert N <= line.operations <= 2 * N + 10
    wait_all_parked()
    assert len(ran) == N
    assert not line


def test_a_hundred_thousand_hand_a_mutex_on_in_linear_time(hub: Hub) -> None:
    mutex = locked_mutex()
    mutex._open_line()
    mutex._line = line = CountingLine()
    for _ in range(N):
        line[new_task(hub, mutex.release, (), None, None, None)] = True
    mutex.release()
    wait_all_parked()
    assert line.operations == N
    assert not mutex.locked()


# -- cancels and deadlines -----------------------------------------------------------------------


@handed_on
def test_a_cancelled_one_in_the_middle_is_passed_over(kind: Kind) -> None:
    waiters = kind.make()
    tasks = [gp.spawn(kind.wait, waiters, None) for _ in range(4)]
    wait_all_parked()
    tasks[0].cancel()
    tasks[2].cancel()
    wait_all_parked()
    assert [task.done for task in tasks] == [True, False, True, False]
    kind.let_one_in(waiters)
    wait_all_parked()
    assert [task.done for task in tasks] == [True, True, True, False]
    kind.let_one_in(waiters)
    tasks[3].join()
    assert [task.cancelled for task in tasks] == [True, False, True, False]
    assert waiting(waiters) == 0


@kinds
def test_a_wait_ends_with_its_time_limit_to_the_nanosecond(kind: Kind) -> None:
    waiters = kind.make()
    with virtual_clock() as clock:
        start = clock.now()
        assert not kind.wait(waiters, 2.5)
        assert clock.now() == pytest.approx(start + 2.5, abs=1e-9)
        task = gp.spawn(kind.wait, waiters, 2.5)
        gp.sleep(1)
        kind.let_one_in(waiters)
        assert task.result()
        assert clock.now() == pytest.approx(start + 3.5, abs=1e-9)
        with gp.move_on_after(1) as scope:
            kind.wait(kind.make(), None)
        assert scope.expired
    assert waiting(waiters) == 0


@kinds
@pytest.mark.parametrize("bad", [-1, float("nan")])
def test_a_bad_time_limit_is_refused_and_leaves_nothing(kind: Kind, bad: float) -> None:
    waiters = kind.make()
    with pytest.raises(ValueError, match="time in seconds"):
        kind.wait(waiters, bad)
    assert waiting(waiters) == 0


@pytest.mark.parametrize("bad", [-1, float("nan")])
def test_a_bad_time_limit_is_refused_also_where_nobody_would_wait(bad: float) -> None:
    mutex, semaphore, rw, group, event = Mutex(), Semaphore(), RWMutex(), WaitGroup(), gp.Event()
    event.set()
    for wait in (
        mutex.acquire,
        semaphore.acquire,
        rw.acquire_read,
        rw.acquire_write,
        group.wait,
        event.wait,
    ):
        with pytest.raises(ValueError, match="time in seconds"):
            wait(timeout=bad)
        assert wait(timeout=0)  # nothing was taken
        if wait == rw.acquire_read:
            rw.release_read()


@kinds
def test_a_cancel_after_the_grant_comes_too_late(kind: Kind) -> None:
    waiters, got = kind.make(), []

    def waiter() -> None:
        kind.wait(waiters, None)
        got.append(True)
        gp.sleep(0)  # the cancel shows at the next park

    task = gp.spawn(waiter)
    wait_all_parked()
    kind.let_one_in(waiters)
    task.cancel()
    task.join()
    assert got == [True]
    assert task.cancelled
    assert waiting(waiters) == 0


@handed_on
def test_a_cancel_between_grant_and_wake_comes_too_late(kind: Kind) -> None:
    waiters = kind.make()
    task = gp.spawn(kind.wait, waiters, None)
    wait_all_parked()
    with waiters._lock:  # as another thread that has not got round to waking it
        granted = waiters._grant()
    task.cancel()
    wait_all_parked()
    assert not task.done
    assert granted is task
    wake(task)
    task.result()
    assert waiting(waiters) == 0


@kinds
def test_in_a_cancelled_scope_nobody_waits(kind: Kind) -> None:
    waiters = kind.make()
    with gp.move_on_after() as scope:
        scope.cancel()
        kind.wait(waiters, None)
    assert scope.expired
    assert waiting(waiters) == 0


@kinds
def test_twenty_thousand_waits_that_ended_otherwise_leave_nothing(kind: Kind, hub: Hub) -> None:
    waiters = kind.make()
    tokens = weakref.WeakSet[Task[Any]]()
    scopes: dict[int, gp.Scope] = {}

    def waiter(number: int) -> None:
        for _ in range(800):
            with gp.move_on_after() as scopes[number]:
                kind.wait(waiters, None)
        for _ in range(200):
            assert not kind.wait(waiters, 1e-9)

    gc.collect()
    objects = len(gc.get_objects())
    tasks = [gp.spawn(waiter, number) for number in range(20)]
    tokens.update(tasks)
    while any(not task.done for task in tasks):
        gp.yield_now()
        for scope in scopes.values():
            scope.cancel()
    for task in tasks:
        task.result()
    assert waiting(waiters) == 0
    assert len(hub.timers) == 0
    kind.let_one_in(waiters)
    assert kind.free(waiters)
    scopes.clear()
    del task, tasks, scope
    gc.collect()
    assert len(tokens) == 0
    assert len(gc.get_objects()) - objects < 1000


# -- errors that unwind a wait ---------------------------------------------------------------------


class Struck(Exception):
    pass


def at_line(
    n: int, fn: Callable[[], object], call: Callable[[], object], where: tuple[Any, ...]
) -> bool:
    """Run ``call()`` and call ``fn`` before the n-th line of it that lies in ``where``.

    As a signal handler would. False when it has fewer lines.
    """
    places = {function.__code__ for function in where}
    left = [n]

    def trace(frame: FrameType, what: str, arg: object) -> Any:
        if frame.f_code not in places:
            return None
        if what == "line":
            left[0] -= 1
            if left[0] == 0:
                sys.settrace(None)
                fn()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return left[0] <= 0


@pytest.mark.parametrize("kind", [KINDS[n] for n in ("mutex", "semaphore", "writer")])
@pytest.mark.parametrize("timeout", [None, LONG])
def test_a_handler_that_raises_at_any_line_of_the_wait_leaves_nobody_and_takes_nothing(
    kind: Kind, timeout: float | None, hub: Hub
) -> None:
    def strike() -> None:
        raise Struck

    lines = struck = 0
    while True:
        waiters = kind.make()
        other = gp.spawn(kind.let_one_in, waiters)

        def wait(waiters: Waiters[Any] = waiters) -> None:
            kind.wait(waiters, timeout)
            kind.let_one_in(waiters)  # it has it: back with it

        reached = False
        try:
            reached = at_line(lines + 1, strike, wait, (Waiters._wait,))
        except Struck:
            reached = True
            struck += 1
        assert other.join(LONG), f"line {lines}"
        assert waiting(waiters) == 0, f"line {lines}"
        assert kind.free(waiters), f"line {lines}"
        assert hub.current is hub.main
        gp.sleep(1e-6)
        if not reached:
            break
        lines += 1
    assert struck > 5


@handed_on
def test_who_unwinds_after_the_grant_gives_it_to_the_next(kind: Kind) -> None:
    waiters = kind.make()
    unwound: list[object] = []

    def leave() -> None:
        def waiter() -> None:
            try:
                kind.wait(waiters, None)
            finally:
                unwound.append(sys.exception())

        task = gp.spawn(waiter)
        wait_all_parked()
        here.set()
        next_in_line.wait(LONG)
        with waiters._lock:
            assert waiters._grant() is task
        this_hub().close()  # before it could go on

    here, next_in_line = threading.Event(), threading.Event()
    thread = threading.Thread(target=leave)
    thread.start()
    here.wait(LONG)
    heir = gp.spawn(kind.wait, waiters, None)
    wait_all_parked()
    assert len(waiters._line) == 2
    next_in_line.set()
    assert heir.join(LONG)
    heir.result()
    thread.join()
    assert len(unwound) == 1
    assert unwound[0] is not None
    assert waiting(waiters) == 0


@kinds
def test_a_thread_that_ends_with_parked_tasks_leaves_no_waiter(kind: Kind) -> None:
    waiters = kind.make()
    seen = []

    def leave() -> None:
        gp.spawn(kind.wait, waiters, None)
        gp.spawn(kind.wait, waiters, LONG)
        wait_all_parked()
        seen.append(waiting(waiters))
        this_hub().close()

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    assert seen == [2]
    assert waiting(waiters) == 0
    kind.let_one_in(waiters)
    assert kind.free(waiters)


def deeper(n: int, fn: Callable[[], object]) -> object:
    return fn() if n == 0 else deeper(n - 1, fn)


@kinds
def test_near_the_recursion_limit_nobody_is_left_in_line(kind: Kind) -> None:
    went_on = refused = 0
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        for depth in range(160, 300):
            waiters = kind.make()
            task = gp.spawn(deeper, depth, partial(kind.wait, waiters, None))
            wait_all_parked()
            if task.done:
                refused += 1
                assert isinstance(task.exception(), RecursionError)
                assert waiting(waiters) == 0, f"depth {depth}"
                if isinstance(waiters, Condition):
                    continue
                kind.let_one_in(waiters)
            else:
                went_on += 1
                assert waiting(waiters) == 1
                kind.let_one_in(waiters)
                error = task.exception()
                if error is None and not isinstance(waiters, (WaitGroup, Condition)):
                    kind.let_one_in(waiters)
            assert waiting(waiters) == 0, f"depth {depth}"
            assert kind.free(waiters), f"depth {depth}"
    finally:
        sys.setrecursionlimit(limit)
    assert went_on > 20
    assert refused > 20


# -- for people, and for the collector -------------------------------------------------------------


@kinds
def test_it_says_who_waits_for_what(kind: Kind) -> None:
    waiters = kind.make()
    task = gp.spawn(kind.wait, waiters, None)
    wait_all_parked()
    assert repr(waiters).endswith(", 1 waiting>")
    assert task.state().endswith(repr(waiters))
    with pytest.raises(gp.Deadlock, match=type(waiters).__name__):
        kind.wait(waiters, None)
    kind.let_one_in(waiters)
    task.join()
    assert "waiting" not in repr(waiters)


@kinds
def test_what_nobody_has_is_freed_and_the_shared_line_stays_empty(kind: Kind) -> None:
    waiters = kind.make()
    assert waiters._line is NOBODY_YET
    task = gp.spawn(kind.wait, waiters, None)
    wait_all_parked()
    kind.let_one_in(waiters)
    task.join()
    gone = weakref.ref(waiters)
    del waiters, task
    gc.collect()
    assert gone() is None
    assert not NOBODY_YET
