"""Barrier: as threading's, rounds never mix, and nobody waits for who is gone."""

from __future__ import annotations

import os
import sys
import threading
from threading import BrokenBarrierError
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenpump as gp
from greenpump.hub.interrupt import interruptible
from greenpump.hub.local import this_hub
from greenpump.sync.barrier import Barrier
from greenpump.testing import virtual_clock, wait_all_parked


def is_empty(barrier: Barrier) -> bool:
    return not barrier._line and not barrier._granted and not barrier._acting.locked()


# -- one rule after the other --------------------------------------------------------------------


def test_all_go_on_when_the_last_has_come_each_with_its_number() -> None:
    barrier = Barrier(4)
    tasks = [gp.spawn(barrier.wait) for _ in range(3)]
    wait_all_parked()
    assert barrier.n_waiting == 3
    assert not any(task.done for task in tasks)
    assert barrier.wait() == 3
    assert [task.result() for task in tasks] == [0, 1, 2]
    assert (barrier.n_waiting, barrier.parties, barrier.broken) == (0, 4, False)
    assert is_empty(barrier)


def test_a_barrier_of_one_lets_through() -> None:
    barrier = Barrier(1)
    assert [barrier.wait() for _ in range(3)] == [0, 0, 0]


def test_it_is_used_again_round_after_round() -> None:
    barrier, log = Barrier(3), []

    def party(name: str) -> None:
        for turn in range(5):
            log.append(turn)
            barrier.wait()

    with gp.Group() as group:
        for name in "abc":
            group.spawn(party, name)
    assert log == sorted(log)
    assert is_empty(barrier)


def test_with_more_tasks_than_parties_rounds_go_by_the_order_of_coming() -> None:
    barrier = Barrier(2)
    tasks = [gp.spawn(barrier.wait) for _ in range(5)]
    wait_all_parked()
    assert [task.done for task in tasks] == [True] * 4 + [False]
    assert barrier.wait() == 1
    assert [task.result() for task in tasks] == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("parties", [0, -1])
def test_less_than_one_party_is_refused(parties: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1 party: {parties}"):
        Barrier(parties)


def test_abort_breaks_it_for_those_that_wait_and_will_until_reset() -> None:
    barrier = Barrier(3)
    tasks = [gp.spawn(barrier.wait) for _ in range(2)]
    wait_all_parked()
    barrier.abort()
    assert [type(task.exception()) for task in tasks] == [BrokenBarrierError] * 2
    assert barrier.broken
    assert repr(barrier).endswith(": 0 of 3 parties, broken>")
    with pytest.raises(BrokenBarrierError, match=r"<Barrier .* is broken"):
        barrier.wait()
    barrier.reset()
    assert "broken" not in repr(barrier)
    tasks = [gp.spawn(barrier.wait) for _ in range(2)]
    assert barrier.wait() == 0
    assert [task.result() for task in tasks] == [1, 2]
    assert is_empty(barrier)


def test_reset_breaks_the_round_but_not_the_next() -> None:
    barrier = Barrier(2)
    task = gp.spawn(barrier.wait)
    wait_all_parked()
    barrier.reset()
    assert not barrier.broken
    assert isinstance(task.exception(), BrokenBarrierError)
    task = gp.spawn(barrier.wait)
    assert barrier.wait() == 0
    assert task.result() == 1
    barrier.reset()
    assert is_empty(barrier)


# -- the action ------------------------------------------------------------------------------------


def test_the_action_is_called_by_the_last_before_anyone_goes_on() -> None:
    log: list[object] = []
    barrier = Barrier(3, lambda: log.append(gp.current().name))

    def party() -> None:
        barrier.wait()
        log.append("went on")

    tasks = [gp.spawn(party) for _ in range(3)]
    tasks[2].name = "the last"
    wait_all_parked()
    assert log == ["the last", *["went on"] * 3]


def test_an_action_may_park_and_no_cancel_takes_the_round_back() -> None:
    gate = gp.Event()
    barrier = Barrier(2, gate.wait)
    task = gp.spawn(barrier.wait)
    last = gp.spawn(barrier.wait)
    wait_all_parked()
    task.cancel()
    wait_all_parked()
    assert not task.done
    gate.set()
    assert (task.result(), last.result()) == (0, 1)
    assert is_empty(barrier)


def test_actions_of_overlapping_rounds_come_one_after_the_other() -> None:
    inside = 0

    def action() -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        gp.yield_now()
        inside -= 1

    barrier = Barrier(2, action)
    tasks = [gp.spawn(barrier.wait) for _ in range(10)]
    assert [task.result() for task in tasks] == [0, 1] * 5
    assert is_empty(barrier)


def test_an_action_that_raises_breaks_the_barrier() -> None:
    def action() -> None:
        raise ZeroDivisionError

    barrier = Barrier(3, action)
    tasks = [gp.spawn(barrier.wait) for _ in range(2)]
    wait_all_parked()
    with pytest.raises(ZeroDivisionError):
        barrier.wait()
    assert [type(task.exception()) for task in tasks] == [BrokenBarrierError] * 2
    assert barrier.broken
    assert is_empty(barrier)


def test_a_cancelled_action_breaks_the_barrier() -> None:
    barrier = Barrier(2, gp.Event().wait)
    task, last = gp.spawn(barrier.wait), gp.spawn(barrier.wait)
    wait_all_parked()
    last.cancel()
    assert isinstance(task.exception(), BrokenBarrierError)
    assert last.join()
    assert last.cancelled
    assert barrier.broken
    assert is_empty(barrier)


def test_ctrl_c_is_raised_in_the_action() -> None:
    found = []
    Barrier(1, lambda: found.append(interruptible(sys._getframe()))).wait()
    assert found == [True]


# -- cancels and deadlines -----------------------------------------------------------------------


def test_a_timeout_breaks_it_for_all() -> None:
    with virtual_clock() as clock:
        start = clock.now()
        barrier = Barrier(4)
        tasks = [gp.spawn(barrier.wait) for _ in range(2)]
        with pytest.raises(BrokenBarrierError, match="not all 4 parties came within 3 s"):
            barrier.wait(3)
        assert clock.now() == pytest.approx(start + 3, abs=1e-9)
        assert [type(task.exception()) for task in tasks] == [BrokenBarrierError] * 2
        assert barrier.broken
        assert is_empty(barrier)


def test_the_barriers_own_timeout_holds_where_none_is_given() -> None:
    with virtual_clock() as clock:
        barrier, start = Barrier(2, timeout=3), clock.now()
        with pytest.raises(BrokenBarrierError, match="within 3 s"):
            barrier.wait()
        barrier.reset()
        with pytest.raises(BrokenBarrierError, match="within 5 s"):
            barrier.wait(5)
        assert clock.now() == pytest.approx(start + 8, abs=1e-6)


def test_a_bad_timeout_is_refused_and_breaks_nothing() -> None:
    barrier = Barrier(2)
    with pytest.raises(ValueError, match="must not be negative"):
        barrier.wait(-1)
    assert not barrier.broken
    assert is_empty(barrier)


def test_a_cancel_breaks_it_for_all() -> None:
    barrier = Barrier(4)
    tasks = [gp.spawn(barrier.wait) for _ in range(3)]
    wait_all_parked()
    tasks[1].cancel()
    assert isinstance(tasks[0].exception(), BrokenBarrierError)
    assert tasks[1].join()
    assert tasks[1].cancelled
    assert isinstance(tasks[2].exception(), BrokenBarrierError)
    assert barrier.broken
    assert is_empty(barrier)


def test_who_comes_too_late_for_its_own_time_limit_breaks_it_too() -> None:
    barrier = Barrier(2)
    task = gp.spawn(barrier.wait)
    wait_all_parked()
    with gp.move_on_after() as scope:
        scope.cancel()
        barrier.wait()
    assert scope.expired
    assert isinstance(task.exception(), BrokenBarrierError)


def test_a_cancel_after_the_last_has_come_takes_nothing_back() -> None:
    barrier = Barrier(2)
    task = gp.spawn(barrier.wait)
    wait_all_parked()
    assert barrier.wait() == 1
    task.cancel()
    assert task.result() == 0
    assert not barrier.broken


def test_waiting_for_who_never_comes_is_a_deadlock_which_breaks_it() -> None:
    barrier = Barrier(2)
    with pytest.raises(gp.Deadlock, match=r"wait for <Barrier at 0x[0-9a-f]+: 1 of 2 parties"):
        barrier.wait()
    assert barrier.broken
    assert is_empty(barrier)


# -- beside threading's ----------------------------------------------------------------------------


class Theirs:
    """threading.Barrier, its parties in threads of their own."""

    def __init__(self, parties: int) -> None:
        self.barrier = threading.Barrier(parties)
        self.answers: dict[int, object] = {}
        self.threads: dict[int, threading.Thread] = {}

    def wait(self, op: int) -> None:
        def thread() -> None:
            try:
                self.answers[op] = self.barrier.wait()
            except BrokenBarrierError:
                self.answers[op] = "broken"

        before = self.barrier.n_waiting
        self.threads[op] = threading.Thread(target=thread)
        self.threads[op].start()
        while self.barrier.n_waiting == before and op not in self.answers:
            os.sched_yield()

    def settle(self, ops: set[int]) -> None:
        """Wait until those have an answer which have one on the other side."""
        for op in ops:
            self.threads[op].join(30)


def answer(task: gp.Task[int]) -> object:
    error = task.exception()
    assert error is None or isinstance(error, BrokenBarrierError)
    return "broken" if error else task.result()


@settings(max_examples=40)
@given(st.integers(1, 4), st.lists(st.sampled_from(["wait"] * 6 + ["abort", "reset"]), max_size=14))
def test_it_answers_as_threadings(parties: int, steps: list[str]) -> None:
    ours, theirs = Barrier(parties), Theirs(parties)
    tasks: dict[int, gp.Task[int]] = {}
    for op, step in enumerate([*steps, "abort"]):
        if step == "wait":
            tasks[op] = gp.spawn(ours.wait)
            theirs.wait(op)
        else:
            getattr(ours, step)()
            getattr(theirs.barrier, step)()
        wait_all_parked()
        done = {op for op, task in tasks.items() if task.done}
        theirs.settle(done)
        assert {op: answer(tasks[op]) for op in done} == theirs.answers
        assert ours.broken == theirs.barrier.broken
        assert ours.n_waiting == theirs.barrier.n_waiting
    assert is_empty(ours)


# -- several hubs and threads --------------------------------------------------------------------

ROUNDS = 100


def run_rounds(barrier: Barrier, counts: list[int], number: int) -> list[int]:
    """Round after round; nobody may be two ahead of another."""
    numbers = []
    for turn in range(ROUNDS):
        counts[number] = turn
        numbers.append(barrier.wait())
        assert min(counts) >= turn
        barrier.wait()
        assert max(counts) <= turn + 1
    return numbers


def check_numbers(parts: list[list[int]]) -> None:
    for turn in zip(*parts, strict=True):
        assert sorted(turn) == list(range(len(parts)))


def test_rounds_of_two_hubs_never_mix() -> None:
    barrier, counts = Barrier(6), [0] * 6

    def main() -> list[list[int]]:
        hubs = gp.hubs()
        tasks = [gp.spawn_on(hubs[n % 2], run_rounds, barrier, counts, n) for n in range(6)]
        return [task.result() for task in tasks]

    check_numbers(gp.run(main, hubs=2))
    assert is_empty(barrier)


def test_rounds_of_plain_threads_never_mix() -> None:
    barrier, counts = Barrier(3), [0] * 3
    parts: list[list[int]] = [[] for _ in range(3)]

    def thread(number: int) -> None:
        parts[number].extend(run_rounds(barrier, counts, number))
        this_hub().close()

    threads = [threading.Thread(target=thread, args=(n,)) for n in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    check_numbers(parts)
    assert is_empty(barrier)


def test_of_a_round_that_a_cancel_races_all_pass_or_none() -> None:
    def party(barrier: Barrier, here: gp.Event) -> Any:
        here.set()
        try:
            return barrier.wait()
        except BrokenBarrierError:
            return "broken"
        except gp.Cancelled:
            return "cancelled"

    def main() -> None:
        ours, other = gp.hubs()
        for turn in range(200):
            barrier, here = Barrier(3), [gp.Event() for _ in range(3)]
            hubs = [(ours, other, other), (other, ours, ours)][turn % 2]
            tasks = [
                gp.spawn_on(hub, party, barrier, event)
                for hub, event in zip(hubs, here, strict=True)
            ]
            here[turn % 3].wait()
            tasks[turn % 3].cancel()
            answers = {task.result() for task in tasks}
            passed = answers == {0, 1, 2}
            assert passed is not barrier.broken
            assert passed or answers <= {"broken", "cancelled"}
            assert is_empty(barrier)

    gp.run(main, hubs=2)


def test_a_broken_party_in_a_closing_hub_frees_the_others() -> None:
    barrier = Barrier(3)
    here = threading.Event()

    def leave() -> None:
        gp.spawn(barrier.wait)
        wait_all_parked()
        here.set()
        while barrier.n_waiting < 2:
            os.sched_yield()
        this_hub().close()

    thread = threading.Thread(target=leave)
    thread.start()
    here.wait(30)
    with pytest.raises(BrokenBarrierError):
        barrier.wait()
    thread.join()
    assert is_empty(barrier)
