"""Condition: as threading's, and no notify is lost to a cancel."""

from __future__ import annotations

import gc
import os
import random
import sys
import threading
import weakref
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.hub.interrupt import interruptible
from greenpump.hub.local import this_hub
from greenpump.sync.condition import Condition
from greenpump.sync.mutex import Mutex
from greenpump.testing import virtual_clock, wait_all_parked

LONG = 30.0


def waiter(condition: Condition, timeout: float | None = None) -> bool:
    with condition:
        notified = condition.wait(timeout)
        assert condition._mutex.locked()
        return notified


def is_free(condition: Condition) -> bool:
    return (
        not condition._mutex.locked()
        and not condition._mutex._line
        and not condition._line
        and not condition._granted
    )


# -- one rule after the other --------------------------------------------------------------------


def test_wait_releases_the_mutex_and_has_it_again_afterwards() -> None:
    condition = Condition()
    task = gp.spawn(waiter, condition)
    wait_all_parked()
    with condition:
        condition.notify()
        wait_all_parked()
        assert not task.done, "it has been notified, and waits for the mutex"
    assert task.result() is True
    assert is_free(condition)


def test_notify_wakes_as_many_as_asked_in_the_order_of_waiting() -> None:
    condition, order = Condition(), []

    def numbered(number: int) -> None:
        waiter(condition)
        order.append(number)

    tasks = [gp.spawn(numbered, number) for number in range(7)]
    wait_all_parked()
    for n, sofar in ((1, 1), (2, 3), (0, 3), (-1, 3), (3, 6), (99, 7)):
        with condition:
            condition.notify(n)
        wait_all_parked()
        assert order == list(range(sofar))
    assert all(task.done for task in tasks)


def test_notify_all_wakes_all_and_none_that_comes_later() -> None:
    condition = Condition()
    tasks = [gp.spawn(waiter, condition) for _ in range(5)]
    wait_all_parked()
    with condition:
        condition.notify_all()
    late = gp.spawn(waiter, condition)
    wait_all_parked()
    assert all(task.result() for task in tasks)
    assert not late.done
    with condition:
        condition.notify_all()
    assert late.result()
    with condition:
        condition.notify_all()
    assert is_free(condition)


@pytest.mark.parametrize("lock", [threading.Lock(), threading.RLock(), gp.Semaphore(), Mutex])
def test_what_is_no_mutex_is_refused(lock: Any) -> None:
    with pytest.raises(TypeError, match="a Condition's mutex is a greenpump"):
        Condition(lock)


@pytest.mark.parametrize("call", ["wait", "notify", "notify_all"])
def test_without_the_mutex_it_is_refused_as_by_threading(call: str) -> None:
    with pytest.raises(RuntimeError):
        getattr(threading.Condition(), call)()
    condition = Condition()
    with pytest.raises(RuntimeError, match="you must hold its mutex: with condition"):
        getattr(condition, call)()
    assert is_free(condition)


def test_several_conditions_share_a_mutex() -> None:
    mutex = Mutex()
    full, empty = Condition(mutex), Condition(mutex)
    box: deque[int] = deque()
    got = []

    def put() -> None:
        for number in range(50):
            with mutex:
                full.wait_for(lambda: len(box) < 2)
                box.append(number)
                empty.notify()

    def take() -> None:
        for _ in range(50):
            with mutex:
                empty.wait_for(lambda: box)
                got.append(box.popleft())
                full.notify()

    with gp.Group() as group:
        group.spawn(take)
        group.spawn(put)
    assert got == list(range(50))


def test_acquire_and_release_are_the_mutexs() -> None:
    mutex = Mutex()
    condition = Condition(mutex)
    assert condition.acquire()
    assert mutex.locked()
    assert condition.acquire(timeout=0) is False
    condition.release()
    with condition:
        assert mutex.locked()
    assert not mutex.locked()
    assert repr(condition).endswith(f": of {mutex!r}>")


# -- time limits -----------------------------------------------------------------------------------


def test_a_wait_in_vain_says_so_and_has_the_mutex() -> None:
    condition = Condition()
    with virtual_clock() as clock, condition:
        start = clock.now()
        assert condition.wait(3) is False
        assert clock.now() == pytest.approx(start + 3, abs=1e-9)
        assert condition._mutex.locked()
    assert is_free(condition)


def test_wait_for_looks_first_and_after_each_notify() -> None:
    condition, looks, box = Condition(), 0, list[int]()

    def predicate() -> list[int]:
        nonlocal looks
        looks += 1
        return box

    def wait_for() -> list[int]:
        with condition:
            return condition.wait_for(predicate)

    task = gp.spawn(wait_for)
    wait_all_parked()
    assert looks == 1
    with condition:
        condition.notify()
    wait_all_parked()
    assert (looks, task.done) == (2, False)
    with condition:
        box.append(5)
        condition.notify()
    assert task.result() is box
    assert looks == 3
    with condition:
        assert condition.wait_for(lambda: 7, timeout=0) == 7


def test_the_limit_of_wait_for_spans_all_its_waits() -> None:
    condition = Condition()

    def disturb() -> None:
        for _ in range(20):
            gp.sleep(1)
            with condition:
                condition.notify_all()

    with virtual_clock() as clock:
        disturber = gp.spawn(disturb)
        start = clock.now()
        with condition:
            assert condition.wait_for(lambda: 0, timeout=5.5) == 0
        assert clock.now() == pytest.approx(start + 5.5, abs=1e-6)
        with condition:
            assert condition.wait_for(lambda: None, timeout=0) is None
        disturber.join()
    assert is_free(condition)


def test_what_the_predicate_raises_is_raised_with_the_mutex_held() -> None:
    condition = Condition()
    with condition:
        with pytest.raises(ZeroDivisionError):
            condition.wait_for(lambda: 1 / 0)
        assert condition._mutex.locked()
    assert is_free(condition)


def test_ctrl_c_is_raised_in_the_predicate() -> None:
    condition = Condition()
    with condition:
        assert condition.wait_for(lambda: interruptible(sys._getframe()), timeout=0)


# -- cancels -------------------------------------------------------------------------------------


def test_a_cancelled_waiter_has_the_mutex_again_and_takes_no_notify() -> None:
    condition, held = Condition(), []

    def cancelled() -> None:
        with condition:
            try:
                condition.wait()
            finally:
                held.append(condition._mutex.locked())

    first = gp.spawn(cancelled)
    second = gp.spawn(waiter, condition)
    wait_all_parked()
    with condition:
        first.cancel()
        wait_all_parked()
        assert not first.done, "it is cancelled, and waits for the mutex"
        condition.notify()
    assert second.result() is True
    assert first.join()
    assert first.cancelled
    assert held == [True]
    assert is_free(condition)


def test_a_cancel_while_the_notified_waits_for_the_mutex_takes_nothing_back() -> None:
    condition, went_on = Condition(), []

    def notified() -> None:
        with condition:
            went_on.append(condition.wait())
            gp.sleep(0)  # here it shows

    task = gp.spawn(notified)
    wait_all_parked()
    with condition:
        condition.notify()
        task.cancel()
        wait_all_parked()
        assert not task.done
    task.join()
    assert went_on == [True]
    assert task.cancelled
    assert is_free(condition)


def test_an_interrupt_while_main_waits_for_the_mutex_is_raised_once_it_has_it(hub: Hub) -> None:
    condition = Condition()

    def interrupt() -> None:
        with condition:
            condition.notify()
            gp.yield_now()
            hub.to_main(KeyboardInterrupt("now"))
            for _ in range(3):
                gp.yield_now()
                assert condition._mutex.locked()

    interrupter = gp.spawn(interrupt)
    with condition:
        with pytest.raises(KeyboardInterrupt, match="now"):
            condition.wait()
        assert interrupter.done
        assert condition._mutex.locked()
    assert is_free(condition)


def test_if_an_error_unwinds_the_notified_the_next_one_is_notified() -> None:
    condition = Condition()
    seen = threading.Event()

    def leave() -> None:
        task = gp.spawn(waiter, condition)
        wait_all_parked()
        seen.set()
        while len(condition._line) < 2:
            os.sched_yield()
        with condition._lock:
            assert condition._grant() is task  # notified, but it never goes on:
        this_hub().close()

    thread = threading.Thread(target=leave)
    thread.start()
    seen.wait(LONG)
    heir = gp.spawn(waiter, condition)
    assert heir.join(LONG)
    assert heir.result() is True
    thread.join()
    assert is_free(condition)


# -- beside threading's ----------------------------------------------------------------------------


class Theirs:
    """threading.Condition, its waiters in threads of their own."""

    def __init__(self) -> None:
        self.condition = threading.Condition(threading.Lock())
        self.woken = 0
        self.one_woke = threading.Semaphore(0)
        self.threads: list[threading.Thread] = []

    def wait(self) -> None:
        holds = threading.Event()

        def thread() -> None:
            with self.condition:
                holds.set()
                self.condition.wait()
            self.one_woke.release()

        self.threads.append(threading.Thread(target=thread))
        self.threads[-1].start()
        holds.wait(LONG)
        self.waiting()  # once this has the lock, the thread waits

    def waiting(self) -> int:
        with self.condition:
            return len(self.condition._waiters)  # type: ignore[attr-defined]

    def notify(self, n: int) -> None:
        notified = min(n, self.waiting())
        with self.condition:
            self.condition.notify(n)
        for _ in range(notified):
            assert self.one_woke.acquire(timeout=LONG)
        self.woken += notified


@settings(max_examples=25)
@given(st.lists(st.one_of(st.just("wait"), st.integers(0, 3)), max_size=12))
def test_as_many_wake_as_with_threadings(steps: list[str | int]) -> None:
    ours, theirs = Condition(), Theirs()
    tasks: list[gp.Task[bool]] = []
    for step in [*steps, 99]:
        if isinstance(step, str):
            tasks.append(gp.spawn(waiter, ours))
            theirs.wait()
        else:
            with ours:
                ours.notify(step)
            theirs.notify(step)
        wait_all_parked()
        assert sum(task.done for task in tasks) == theirs.woken
        assert len(ours._line) == theirs.waiting()
    for thread in theirs.threads:
        thread.join()
    assert is_free(ours)


# -- several hubs and threads --------------------------------------------------------------------


class Box:
    """A bounded queue made of one condition, to count what gets lost."""

    def __init__(self, room: int) -> None:
        self.condition = Condition()
        self.room = room
        self.items: deque[Any] = deque()

    def put(self, item: object) -> None:
        with self.condition:
            self.condition.wait_for(lambda: len(self.items) < self.room)
            self.items.append(item)
            self.condition.notify_all()

    def take(self, timeout: float | None = None) -> Any:
        with self.condition:
            if not self.condition.wait_for(lambda: bool(self.items), timeout):
                return None
            self.condition.notify_all()
            return self.items.popleft()


def test_two_hubs_lose_and_double_nothing() -> None:
    box, each = Box(2), 200

    def put(base: int) -> None:
        for number in range(each):
            box.put(base + number)

    def take() -> list[int]:
        return [box.take() for _ in range(each)]

    def main() -> list[int]:
        hubs = gp.hubs()
        takers = [gp.spawn_on(hubs[n % 2], take) for n in range(4)]
        putters = [gp.spawn_on(hubs[n // 2], put, n * each) for n in range(4)]
        for task in putters:
            task.result()
        return [number for task in takers for number in task.result()]

    assert sorted(gp.run(main, hubs=2)) == list(range(4 * each))
    assert is_free(box.condition)


def test_plain_threads_lose_and_double_nothing() -> None:
    box, each, taken = Box(2), 200, list[int]()

    def put(base: int) -> None:
        for number in range(each):
            box.put(base + number)
        this_hub().close()

    def take() -> None:
        taken.extend([box.take() for _ in range(each)])
        this_hub().close()

    threads = [threading.Thread(target=take) for _ in range(2)]
    threads += [threading.Thread(target=put, args=(n * each,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(2 * each))
    assert is_free(box.condition)


@pytest.mark.parametrize("seed", range(3))
def test_single_notifies_survive_a_storm_of_cancels(seed: int) -> None:
    # Each item comes with one notify. If a cancelled waiter swallowed one, the last takers, which
    # nobody cancels, would wait for ever for items that lie there.
    condition, items, chance = Condition(), deque[int](), random.Random(seed)
    total = 300

    def take_one() -> int:
        with condition:
            condition.wait_for(lambda: items)
            return items.popleft()

    def taker() -> list[int]:
        got: list[int] = []
        while True:
            with gp.move_on_after(chance.choice([0.00005, 0.0005])) as scope:
                got.append(take_one())
            if got and got[-1] < 0:
                return got[:-1]
            if scope.expired:
                gp.yield_now()

    def put(number: int) -> None:
        with condition:
            items.append(number)
            condition.notify()

    def main() -> list[int]:
        hubs = gp.hubs()
        takers = [gp.spawn_on(hub, taker) for hub in hubs for _ in range(3)]
        patient = [gp.spawn_on(hub, take_one) for hub in hubs for _ in range(2)]
        for number in range(total):
            put(number)
            gp.yield_now()
        for _ in range(len(takers) + len(patient)):
            put(-1)
        got = [number for task in takers for number in task.result()]
        return got + [task.result() for task in patient]

    got = gp.run(main, hubs=2)
    left = [*items]
    assert sorted(n for n in got + left if n >= 0) == list(range(total))
    assert is_free(condition)


def test_it_is_freed() -> None:
    condition = Condition()
    task = gp.spawn(waiter, condition)
    wait_all_parked()
    with condition:
        condition.notify()
    task.join()
    gone = weakref.ref(condition)
    del condition, task
    gc.collect()
    assert gone() is None
