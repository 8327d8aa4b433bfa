"""Mutex: one at a time, in the order of coming, across hubs and threads."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenpump as gp
from greenpump.hub.local import hub_or_none, this_hub
from greenpump.sync.mutex import Mutex
from greenpump.testing import wait_all_parked

LONG = 30.0


def in_thread(fn: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=fn)
    thread.start()
    return thread


def is_free(mutex: Mutex) -> bool:
    """Unlocked, by exactly one token, and nobody is left in it."""
    return len(mutex._free) == 1 and not mutex._line and not mutex._granted


# -- one rule after the other --------------------------------------------------------------------


def test_it_is_locked_in_the_block_and_also_left_by_an_error() -> None:
    mutex = Mutex()
    assert not mutex.locked()
    with mutex:
        assert mutex.locked()
    with pytest.raises(KeyError), mutex:
        raise KeyError
    assert not mutex.locked()


@given(st.lists(st.sampled_from(["try", "release", "locked"]), max_size=30))
def test_it_answers_as_threadings(steps: list[str]) -> None:
    ours, theirs = Mutex(), threading.Lock()
    for step in steps:
        if step == "try":
            assert ours.try_acquire() == theirs.acquire(False)
        elif step == "locked":
            assert ours.locked() == theirs.locked()
        elif theirs.locked():
            ours.release()
            theirs.release()
        else:
            with pytest.raises(RuntimeError):
                theirs.release()
            with pytest.raises(RuntimeError, match="nobody had acquired it"):
                ours.release()


def test_uncontended_it_needs_no_hub() -> None:
    mutex, found = Mutex(), []

    def thread() -> None:
        with mutex:
            found.append(mutex.try_acquire())
        found.append(mutex.acquire())
        mutex.release()
        found.append(hub_or_none() is None)

    in_thread(thread).join()
    assert found == [False, True, True]


def test_another_task_may_release_it() -> None:
    mutex = Mutex()
    mutex.acquire()
    waiter = gp.spawn(mutex.acquire)
    wait_all_parked()
    gp.spawn(mutex.release).join()
    assert waiter.result() is True
    in_thread(mutex.release).join()
    assert is_free(mutex)


def test_who_acquires_it_twice_waits_for_itself() -> None:
    mutex = Mutex()
    with mutex, pytest.raises(gp.Deadlock, match=r"acquire <Mutex at 0x[0-9a-f]+: locked, 1 wait"):
        mutex.acquire()
    with mutex:
        assert mutex.acquire(timeout=0) is False
    assert is_free(mutex)


@pytest.mark.parametrize("blocking", [True, False])
def test_threadings_acquire_with_a_flag_is_refused(blocking: bool) -> None:
    mutex = Mutex()
    with pytest.raises(TypeError):
        mutex.acquire(blocking)  # type: ignore[call-arg]
    assert is_free(mutex)


def test_who_releases_and_acquires_again_at_once_stands_behind_those_that_wait() -> None:
    mutex, order = Mutex(), []

    def worker(name: str) -> None:
        for _ in range(5):
            with mutex:
                order.append(name)

    mutex.acquire()
    tasks = [gp.spawn(worker, name) for name in "abc"]
    wait_all_parked()
    mutex.release()
    for task in tasks:
        task.join()
    assert "".join(order) == "abc" * 5


def test_try_acquire_overtakes_nobody_who_was_handed_it() -> None:
    mutex = Mutex()
    mutex.acquire()
    waiter = gp.spawn(mutex.acquire)
    wait_all_parked()
    mutex.release()
    assert mutex.locked()
    assert not mutex.try_acquire(), "it is the waiter's already, though that has not resumed"
    assert waiter.result()
    mutex.release()
    assert mutex.try_acquire()


def test_the_repr_says_how_it_is() -> None:
    mutex = Mutex()
    assert repr(mutex).endswith(": unlocked>")
    with mutex:
        assert repr(mutex).endswith(": locked>")


# -- the moment between the two looks --------------------------------------------------------------


class Watched(deque[None]):
    """Calls a function once, before a token is returned or after one was missed."""

    before_append: Callable[[], object] | None = None
    after_miss: Callable[[], object] | None = None

    def append(self, item: None) -> None:
        hook, self.before_append = self.before_append, None
        if hook is not None:
            hook()
        super().append(item)

    def pop(self) -> None:  # type: ignore[override]
        try:
            super().pop()
        except IndexError:
            hook, self.after_miss = self.after_miss, None
            if hook is not None:
                hook()
            raise


def test_who_comes_while_it_is_being_unlocked_is_let_in() -> None:
    mutex = Mutex()
    mutex._free = free = Watched((None,), 1)
    mutex.acquire()
    tasks: list[gp.Task[Any]] = []

    def come() -> None:
        tasks.append(gp.spawn(mutex.acquire))
        wait_all_parked()
        assert len(mutex._line) == 1

    free.before_append = come
    mutex.release()
    assert not mutex._line, "the release has looked again"
    assert tasks[0].result()
    mutex.release()
    assert is_free(mutex)


def test_who_missed_the_token_that_then_came_back_tries_again_before_it_waits() -> None:
    mutex = Mutex()
    mutex._free = free = Watched((None,), 1)
    mutex.acquire()
    free.after_miss = mutex.release
    assert mutex.acquire()
    assert mutex.locked()
    mutex.release()
    assert is_free(mutex)


def test_where_the_last_waiter_leaves_as_it_is_released_it_is_unlocked() -> None:
    mutex = Mutex()
    mutex.acquire()
    waiter = gp.spawn(mutex.acquire)
    wait_all_parked()
    real = mutex._lock

    class Lock:
        def acquire(self) -> None:
            mutex._lock = real
            waiter.cancel()
            real.acquire()

        def release(self) -> None:
            real.release()

    mutex._lock = Lock()  # type: ignore[assignment]
    mutex.release()
    assert is_free(mutex)
    waiter.join()
    assert waiter.cancelled


# -- against a plain model -----------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.sampled_from(["acquire", "acquire", "release", "release", "try"]).map(
            lambda name: (name, 0)
        ),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
    ),
    max_size=40,
)


@settings(max_examples=150)
@given(STEPS)
def test_it_does_what_the_model_does(steps: list[tuple[str, int]]) -> None:
    mutex = Mutex()
    locked, line, done = False, list[int](), set[int]()
    tasks: dict[int, gp.Task[Any]] = {}
    for op, (name, which) in enumerate(steps):
        if name == "acquire":
            tasks[op] = gp.spawn(mutex.acquire)
            if locked:
                line.append(op)
            else:
                locked = True
                done.add(op)
        elif name == "try":
            assert mutex.try_acquire() is not locked
            locked = True
        elif name == "release":
            if not locked:
                with pytest.raises(RuntimeError):
                    mutex.release()
            else:
                mutex.release()
                if line:
                    done.add(line.pop(0))
                else:
                    locked = False
        elif tasks:
            victim = list(tasks)[which % len(tasks)]
            tasks[victim].cancel()
            if victim in line:
                line.remove(victim)
                done.add(victim)
        wait_all_parked()
        assert mutex.locked() is locked
        assert [op for op, task in tasks.items() if not task.done] == line
        assert {op for op, task in tasks.items() if task.done} == done
    for task in tasks.values():
        task.cancel()
        task.join()
    if mutex.locked():
        mutex.release()
    assert is_free(mutex)


# -- several hubs and threads --------------------------------------------------------------------


class Guarded:
    """A counter that several may count only one after the other."""

    def __init__(self) -> None:
        self.mutex = Mutex()
        self.inside = self.count = 0

    def add(self, rest: Callable[[], object]) -> None:
        """Called with the mutex held."""
        self.inside += 1
        assert self.inside == 1
        count = self.count
        rest()
        self.count = count + 1
        self.inside -= 1


def test_one_at_a_time_on_two_hubs() -> None:
    guarded = Guarded()

    def worker() -> None:
        for n in range(300):
            with guarded.mutex:
                guarded.add(gp.yield_now if n % 3 == 0 else int)

    def main() -> None:
        tasks = [gp.spawn_on(hub, worker) for hub in gp.hubs() for _ in range(4)]
        for task in tasks:
            task.result()

    gp.run(main, hubs=2)
    assert guarded.count == 8 * 300
    assert is_free(guarded.mutex)


def test_one_at_a_time_in_plain_threads() -> None:
    guarded = Guarded()

    def thread() -> None:
        for _ in range(2000):
            guarded.mutex.acquire()
            guarded.add(int)
            guarded.mutex.release()
        this_hub().close()

    threads = [in_thread(thread) for _ in range(4)]
    for each in threads:
        each.join()
    assert guarded.count == 4 * 2000
    assert is_free(guarded.mutex)


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_cancels_and_deadlines_loses_no_token(seed: int) -> None:
    guarded = Guarded()
    chance = random.Random(seed)
    acquired = [0]

    def worker() -> int:
        got = 0
        for n in range(200):
            with gp.move_on_after(chance.choice([0.00005, 0.0002, None])):
                if guarded.mutex.acquire(timeout=chance.choice([0.0001, None])):
                    try:
                        with gp.shield():
                            guarded.add(gp.yield_now if n % 2 else int)
                        got += 1
                    finally:
                        guarded.mutex.release()
        return got

    def pass_through() -> None:
        guarded.mutex.acquire()
        guarded.mutex.release()

    def main() -> None:
        hubs = gp.hubs()
        tasks = [gp.spawn_on(hub, worker) for hub in hubs for _ in range(5)]
        passers = []
        for n in range(100):
            passers.append(gp.spawn_on(hubs[n % 2], pass_through))
            gp.yield_now()
            chance.choice(passers).cancel()
        for passer in passers:
            assert passer.join(LONG)
        acquired[0] = sum(task.result() for task in tasks)

    gp.run(main, hubs=2)
    assert guarded.count == acquired[0] > 0
    assert is_free(guarded.mutex)
