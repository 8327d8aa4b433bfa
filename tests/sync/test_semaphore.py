"""Semaphore: weights in the order of coming, across hubs and threads."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenpump as gp
from greenpump.hub.local import this_hub
from greenpump.sync.semaphore import Semaphore
from greenpump.testing import virtual_clock, wait_all_parked


def is_free(semaphore: Semaphore) -> bool:
    return semaphore.available == semaphore.limit and not semaphore._line and not semaphore._granted


# -- one rule after the other --------------------------------------------------------------------


def test_so_many_are_in_the_block_at_once() -> None:
    semaphore, inside, most = Semaphore(3), 0, 0

    def worker() -> None:
        nonlocal inside, most
        with semaphore:
            inside += 1
            most = max(most, inside)
            gp.yield_now()
            inside -= 1

    with gp.Group() as group:
        for _ in range(10):
            group.spawn(worker)
    assert most == 3
    assert is_free(semaphore)


def test_an_error_in_the_block_gives_it_back() -> None:
    semaphore = Semaphore()
    with pytest.raises(KeyError), semaphore:
        raise KeyError(semaphore.available)
    assert is_free(semaphore)


def test_a_heavy_one_is_not_starved_by_light_ones() -> None:
    semaphore = Semaphore(3)
    semaphore.acquire(2)
    heavy = gp.spawn(semaphore.acquire, 3)
    wait_all_parked()
    light = gp.spawn(semaphore.acquire, 1)
    wait_all_parked()
    assert not semaphore.try_acquire(1), "it would fit, but the heavy one waits"
    assert not light.done
    semaphore.release(2)
    assert heavy.result()
    assert not light.done
    semaphore.release(3)
    assert light.result()


def test_the_light_ones_go_on_when_the_heavy_one_before_them_gives_up() -> None:
    semaphore = Semaphore(3)
    semaphore.acquire(1)
    heavy = gp.spawn(semaphore.acquire, 3)
    light = [gp.spawn(semaphore.acquire, 1) for _ in range(3)]
    wait_all_parked()
    assert not any(task.done for task in light)
    heavy.cancel()
    wait_all_parked()
    assert [task.done for task in light] == [True, True, False]
    with virtual_clock():
        assert semaphore.acquire(3, timeout=1) is False
    semaphore.release(3)
    assert light[2].result()
    semaphore.release()
    assert is_free(semaphore)


def test_one_release_lets_in_as_many_as_fit() -> None:
    semaphore = Semaphore(10)
    semaphore.acquire(10)
    tasks = [gp.spawn(semaphore.acquire, n) for n in (1, 2, 3, 5, 1)]
    wait_all_parked()
    semaphore.release(8)
    wait_all_parked()
    assert [task.done for task in tasks] == [True, True, True, False, False]
    assert semaphore.available == 2
    semaphore.release(8)
    assert tasks[3].result()
    assert tasks[4].result()
    assert semaphore.available == 4


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_1_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=f"must be at least 1: {limit}"):
        Semaphore(limit)


@pytest.mark.parametrize("n", [0, -1, 4, False])
@pytest.mark.parametrize("operation", [Semaphore.acquire, Semaphore.try_acquire, Semaphore.release])
def test_a_weight_that_can_never_be_is_refused(operation: Any, n: int) -> None:
    semaphore = Semaphore(3)
    with pytest.raises(ValueError, match="from 1 to the semaphore's limit, 3"):
        operation(semaphore, n)
    assert is_free(semaphore)


def test_threadings_acquire_false_is_told_what_to_call() -> None:
    with pytest.raises(ValueError, match="call try_acquire"):
        Semaphore(3).acquire(False)


@pytest.mark.parametrize("bad", [1.5, "1", None])
def test_what_is_no_whole_number_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError):
        Semaphore(bad)
    with pytest.raises(TypeError):
        Semaphore(3).acquire(bad)


def test_more_than_was_acquired_cannot_be_released() -> None:
    semaphore = Semaphore(3)
    semaphore.acquire()
    with pytest.raises(ValueError, match="2 released that nobody had acquired: <Semaphore"):
        semaphore.release(2)
    assert semaphore.available == 2
    semaphore.release()
    with pytest.raises(ValueError, match="1 released"):
        semaphore.release()
    assert is_free(semaphore)


def test_the_repr_says_how_it_is() -> None:
    semaphore = Semaphore(3)
    semaphore.acquire(2)
    assert repr(semaphore).endswith(": 1 of 3 available>")


@given(st.integers(1, 3), st.lists(st.sampled_from(["acquire", "release"]), max_size=30))
def test_it_answers_as_threadings(limit: int, steps: list[str]) -> None:
    ours, theirs = Semaphore(limit), threading.BoundedSemaphore(limit)
    for step in steps:
        if step == "acquire":
            assert ours.try_acquire() == theirs.acquire(False)
            continue
        try:
            theirs.release()
        except ValueError:
            with pytest.raises(ValueError, match="nobody had acquired"):
                ours.release()
        else:
            ours.release()


# -- against a plain model -----------------------------------------------------------------------

WEIGHTS = st.integers(1, 5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), WEIGHTS),
        st.tuples(st.just("acquire"), WEIGHTS),
        st.tuples(st.just("try"), WEIGHTS),
        st.tuples(st.just("release"), WEIGHTS),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
    ),
    max_size=40,
)


@settings(max_examples=150)
@given(limit=st.integers(1, 5), steps=STEPS)
def test_it_does_what_the_model_does(limit: int, steps: list[tuple[str, int]]) -> None:
    semaphore, free = Semaphore(limit), limit
    line: list[tuple[int, int]] = []
    tasks: dict[int, gp.Task[Any]] = {}
    for op, (name, n) in enumerate(steps):
        if name == "cancel":
            if tasks:
                victim = list(tasks)[n % len(tasks)]
                tasks[victim].cancel()
                line = [(other, weight) for other, weight in line if other != victim]
        elif n > limit:
            with pytest.raises(ValueError, match="weight"):
                getattr(semaphore, "release" if name == "release" else "acquire")(n)
        elif name == "acquire":
            tasks[op] = gp.spawn(semaphore.acquire, n)
            line.append((op, n))
        elif name == "try":
            can = not line and n <= free
            assert semaphore.try_acquire(n) is can
            free -= n if can else 0
        elif free + n > limit:
            with pytest.raises(ValueError, match="nobody had acquired"):
                semaphore.release(n)
        else:
            semaphore.release(n)
            free += n
        while line and line[0][1] <= free:
            free -= line.pop(0)[1]
        wait_all_parked()
        assert semaphore.available == free
        assert [op for op, task in tasks.items() if not task.done] == [op for op, _ in line]
    for task in tasks.values():
        task.cancel()
        task.join()
    if semaphore.available < limit:
        semaphore.release(limit - semaphore.available)
    assert is_free(semaphore)


# -- several hubs and threads --------------------------------------------------------------------

LIMIT = 5


class Inside:
    """The weight inside, counted under a lock of its own."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.weight = 0

    def change(self, n: int) -> None:
        with self.lock:
            self.weight += n
            assert 0 <= self.weight <= LIMIT


@pytest.mark.parametrize("seed", range(3))
def test_two_hubs_with_cancels_and_deadlines_never_exceed_the_limit(seed: int) -> None:
    semaphore, inside, chance = Semaphore(LIMIT), Inside(), random.Random(seed)

    def worker() -> int:
        got = 0
        for _ in range(200):
            n = chance.randint(1, LIMIT)
            with gp.move_on_after(chance.choice([0.00005, 0.0005, None])):
                if semaphore.acquire(n, timeout=chance.choice([0.0001, None])):
                    inside.change(n)
                    got += 1
                    with gp.shield():
                        gp.yield_now()
                    inside.change(-n)
                    semaphore.release(n)
        return got

    def pass_through() -> None:
        semaphore.acquire(LIMIT)
        semaphore.release(LIMIT)

    def main() -> int:
        hubs = gp.hubs()
        tasks = [gp.spawn_on(hub, worker) for hub in hubs for _ in range(4)]
        passers = []
        for n in range(100):
            passers.append(gp.spawn_on(hubs[n % 2], pass_through))
            gp.yield_now()
            chance.choice(passers).cancel()
        for passer in passers:
            passer.join()
        return sum(task.result() for task in tasks)

    assert gp.run(main, hubs=2) > 0
    assert is_free(semaphore)


def test_plain_threads_never_exceed_the_limit() -> None:
    semaphore, inside = Semaphore(LIMIT), Inside()

    def worker(n: int) -> None:
        for _ in range(500):
            semaphore.acquire(n)
            inside.change(n)
            inside.change(-n)
            semaphore.release(n)
        this_hub().close()

    threads = [threading.Thread(target=worker, args=(n,)) for n in range(1, LIMIT + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert is_free(semaphore)
