"""Event: a flag that wakes everybody, set from anywhere at all."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.hub.local import hub_or_none, this_hub
from greenpump.hub.task import Task, new_task
from greenpump.sync.event import Seat
from greenpump.testing import virtual_clock, wait_all_parked

LONG = 30.0


class CountingDict(dict[Task[Any] | Seat, bool]):
    """Counts what is asked of it."""

    operations = 0

    def pop(self, *args: Any) -> Any:
        self.operations += 1
        return super().pop(*args)

    def __setitem__(self, key: Task[Any] | Seat, value: bool) -> None:
        self.operations += 1
        super().__setitem__(key, value)


class Finalised:
    """Calls a function when it is dropped."""

    def __init__(self, fn: Callable[[], object]) -> None:
        self.fn = fn

    def __del__(self) -> None:
        self.fn()


def waiting(event: gp.Event) -> int:
    return len(event._waiting)


def set_after(seconds: float, event: gp.Event) -> None:
    gp.sleep(seconds)
    event.set()


# -- as threading.Event ----------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["set", "clear", "is_set", "wait"]), max_size=30))
def test_it_answers_as_threadings(steps: list[str]) -> None:
    ours, theirs = gp.Event(), threading.Event()
    for step in steps:
        args = (0.0,) if step == "wait" else ()
        assert getattr(ours, step)(*args) == getattr(theirs, step)(*args)
    assert waiting(ours) == 0


def test_a_set_event_lets_through_at_once_and_without_a_hub() -> None:
    event = gp.Event()
    event.set()
    found = []

    def thread() -> None:
        found.append((event.wait(), event.wait(0), hub_or_none()))

    runner = threading.Thread(target=thread)
    runner.start()
    runner.join()
    assert found == [(True, True, None)]


def test_a_wait_ends_with_its_time_limit_to_the_nanosecond() -> None:
    event = gp.Event()
    with virtual_clock() as clock:
        start = clock.now()
        assert event.wait(2.5) is False
        assert clock.now() == pytest.approx(start + 2.5, abs=1e-9)
        setter = gp.spawn(set_after, 1, event)
        assert event.wait(2.5) is True
        assert clock.now() == pytest.approx(start + 3.5, abs=1e-9)
        setter.join()
    assert waiting(event) == 0


@pytest.mark.parametrize("bad", [-1, -1e-9, float("nan")])
def test_a_bad_time_limit_is_refused_and_leaves_nothing(bad: float) -> None:
    event = gp.Event()
    with pytest.raises(ValueError, match="time in seconds"):
        event.wait(bad)
    assert waiting(event) == 0


def test_the_repr_says_who_waits() -> None:
    event = gp.Event()
    task = gp.spawn(event.wait)
    wait_all_parked()
    assert repr(event).endswith(": 1 waiting>")
    assert "wait for <Event" in task.state()
    event.set()
    assert repr(event).endswith(": set>")
    task.join()


def test_a_clear_right_after_the_set_takes_nobody_back() -> None:
    event = gp.Event()
    tasks = [gp.spawn(event.wait, LONG) for _ in range(10)]
    wait_all_parked()
    event.set()
    event.clear()
    assert event.wait(0) is False
    assert [task.result() for task in tasks] == [True] * 10


def test_waiters_wake_in_the_order_of_waiting() -> None:
    event, order = gp.Event(), []

    def waiter(n: int) -> None:
        event.wait()
        order.append(n)

    tasks = [gp.spawn(waiter, n) for n in range(100)]
    wait_all_parked()
    event.set()
    for task in tasks:
        task.join()
    assert order == list(range(100))


# -- in numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 1000, 100_000])
def test_any_number_of_tasks_wakes_in_one_pass(n: int, hub: Hub) -> None:
    event = gp.Event()
    event._waiting = waiters = CountingDict()
    ran: list[None] = []
    # Not started, each: waking one starts it. (A hundred thousand parked ones took 700 MB.)
    for _ in range(n):
        waiters[new_task(hub, ran.append, (None,), None, None, None)] = True
    waiters.operations = 0
    event.set()
    assert waiters.operations == n
    assert not waiters
    assert len([task for task in hub.ready if task is not hub.root_task]) == n
    wait_all_parked()
    assert len(ran) == n


def test_100_000_waits_that_ended_otherwise_leave_nothing(hub: Hub) -> None:
    event = gp.Event()
    tokens = weakref.WeakSet[Task[Any]]()

    def waiter(rounds: int) -> int:
        ended = 0
        for n in range(rounds):
            if n % 2:
                ended += not event.wait(1e-9)
                continue
            with gp.move_on_after() as scope:
                hub.ready.append(new_task(hub, scope.cancel, (), None, None, None))
                event.wait()
            ended += scope.expired
        return ended

    tasks = [gp.spawn(waiter, 1000) for _ in range(99)]
    tokens.update(tasks)
    assert sum(task.result() for task in tasks) == 99_000
    cancelled = [gp.spawn(event.wait) for _ in range(1000)]
    tokens.update(cancelled)
    wait_all_parked()
    assert waiting(event) == 1000
    for task in cancelled:
        task.cancel()
    wait_all_parked()
    assert waiting(event) == 0
    assert len(hub.timers) == 0
    del task, tasks, cancelled
    gc.collect()
    assert len(tokens) == 0


# -- set from anywhere ---------------------------------------------------------------------------


def test_a_signal_handler_sets_it_while_the_hub_sleeps(hub: Hub) -> None:
    event = gp.Event()

    def ring() -> None:
        while not hub.sleeping:
            pass
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=ring)
    before = signal.signal(signal.SIGUSR1, lambda *_: event.set())
    try:
        thread.start()
        assert event.wait(LONG)
    finally:
        signal.signal(signal.SIGUSR1, before)
        thread.join()


EVERYWHERE = (gp.Event.wait, Hub.wait, Hub.prepare, Hub.park)


def at_line(
    n: int, fn: Callable[[], object], wait: Callable[[], object], where: tuple[Any, ...]
) -> bool:
    """Run ``wait()`` and call ``fn`` before the n-th line of it that lies in ``where``.

    As a signal handler or finaliser would. False when it has fewer lines.
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
        wait()
    finally:
        sys.settrace(before)
    return left[0] <= 0


def test_a_set_at_any_line_of_the_wait_wakes_it() -> None:
    lines = 0
    while True:
        event = gp.Event()
        found: list[bool] = []

        def wait(event: gp.Event = event, found: list[bool] = found) -> None:
            found.append(event.wait(0.05))

        if not at_line(lines + 1, event.set, wait, EVERYWHERE):
            break
        lines += 1
        if found == [False]:  # the limit had passed: the last lines of a wait in vain
            assert event.is_set()
            continue
        assert found == [True], f"line {lines}"
        assert waiting(event) == 0
        gp.sleep(1e-6)  # a wake too many would end this one early, or break the hub
    assert lines > 20


class Struck(Exception):
    pass


def test_a_handler_that_raises_at_any_line_of_the_wait_leaves_nobody_behind(hub: Hub) -> None:
    def strike() -> None:
        raise Struck

    lines = 0
    while True:
        event = gp.Event()
        other = gp.spawn(set_after, 0, event)
        try:
            if not at_line(lines + 1, strike, event.wait, (gp.Event.wait,)):
                break
        except Struck:
            pass
        lines += 1
        assert other.join(LONG), f"line {lines}"
        assert waiting(event) == 0, f"line {lines}"
        assert hub.current is hub.main
        gp.sleep(1e-6)
    other.join()
    assert lines > 5


def test_a_finaliser_sets_it_wherever_the_collector_strikes() -> None:
    events: list[gp.Event] = []

    def waiter() -> None:
        for _ in range(100):
            event = gp.Event()
            cycle: list[object] = [Finalised(event.set)]
            cycle.append(cycle)
            del cycle
            events.append(event)
            assert event.wait(LONG)

    def churn() -> None:
        while True:
            rubbish: list[object] = []
            rubbish.append(rubbish)
            gp.yield_now()

    threshold = gc.get_threshold()
    gc.set_threshold(10, 2, 2)
    churner = gp.spawn(churn)
    try:
        tasks = [gp.spawn(waiter) for _ in range(5)]
        for task in tasks:
            task.result()
    finally:
        gc.set_threshold(*threshold)
        churner.cancel()
        churner.join()
    assert len(events) == 500
    assert sum(map(waiting, events)) == 0


def test_plain_threads_set_it_and_wait_for_it() -> None:
    event, answer = gp.Event(), gp.Event()
    found = []

    def thread() -> None:
        found.append(event.wait(LONG))  # with a hub of this thread's own
        answer.set()
        this_hub().close()

    runner = threading.Thread(target=thread)
    runner.start()
    while not waiting(event):
        gp.sleep(0.0005)
    event.set()
    assert answer.wait(LONG)
    runner.join()
    assert found == [True]


def test_each_of_several_setters_wakes_everybody_once() -> None:
    # Threads that all set and clear at once: who was woken twice would skip a round.
    event, rounds, stop = gp.Event(), [0] * 8, threading.Event()

    def setter() -> None:
        while not stop.is_set():
            event.set()
            event.clear()

    def waiter(n: int) -> None:
        for _ in range(200):
            assert event.wait(LONG)
            rounds[n] += 1
            gp.sleep(0)

    threads = [threading.Thread(target=setter) for _ in range(2)]
    for thread in threads:
        thread.start()
    tasks = [gp.spawn(waiter, n) for n in range(8)]
    for task in tasks:
        task.join()
    stop.set()
    for thread in threads:
        thread.join()
    assert rounds == [200] * 8
    assert waiting(event) == 0


class SetMeanwhile(gp.Event):
    """Somebody sets it when the task has registered and looks once more."""

    def is_set(self) -> bool:
        self.set()
        return super().is_set()


@virtual_clock()
def test_one_set_while_the_task_registers_wakes_it_once() -> None:
    event = SetMeanwhile()
    assert event.wait()
    hub = this_hub()
    before = hub.timers.clock()
    gp.sleep(1)  # a second wake would end it
    assert hub.timers.clock() == before + 1_000_000_000


@virtual_clock()
def test_a_set_within_a_set_wakes_nobody_twice() -> None:
    event = gp.Event()

    class SetsAgain(Seat):
        def offer(self, value: object) -> bool:
            event.set()
            return True

    slept: list[int] = []

    def waiter() -> None:
        event.wait()
        clock = this_hub().timers.clock
        before = clock()
        gp.sleep(1)  # a second wake would end it
        slept.append(clock() - before)

    event._waiting[SetsAgain()] = True
    task = gp.spawn(waiter)
    wait_all_parked()
    event.set()
    task.join()
    assert slept == [1_000_000_000]
