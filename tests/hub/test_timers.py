"""Timers: a heap against a model, and how seldom the timerfd is touched."""

from __future__ import annotations

import math
import time
from heapq import heappop
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.hub.timers import CENTURY, FAR, SLACK, Timers


class Recorder:
    """A timerfd that notes when it was armed."""

    def __init__(self) -> None:
        self.armed: list[int] = []

    def arm(self, when: int) -> None:
        self.armed.append(when)


class Owner:
    def __init__(self, name: int, fired: list[tuple[int, int]], timers: Timers) -> None:
        self.name = name
        self.timer_at = self.deadline = FAR
        self._fired = fired
        self._timers = timers

    def timed_out(self) -> None:
        self._fired.append((self.name, self.deadline))
        self.deadline = FAR

    def set(self, deadline: int) -> None:
        """What ``Hub.wait`` does."""
        self.deadline = deadline
        if deadline < self.timer_at:
            self._timers.arm(self, deadline)


class Bench:
    """Timers with a clock of the test's and a timerfd that only records."""

    def __init__(self) -> None:
        self.now = 1000
        self.timers = Timers()
        self.timers.clock = lambda: self.now
        self.timerfd = Recorder()
        self.timers.timerfd = self.timerfd  # type: ignore[assignment]
        self.fired: list[tuple[int, int]] = []
        self.owners = [Owner(n, self.fired, self.timers) for n in range(8)]

    def live(self) -> int:
        return sum(owner.timer_at != FAR for owner in self.owners)


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- the heap against a model --------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 7), st.integers(0, 40)),
        st.tuples(st.just("clear"), st.integers(0, 7), st.just(0)),
        st.tuples(st.just("disarm"), st.integers(0, 7), st.just(0)),
        st.tuples(st.just("advance"), st.just(0), st.integers(0, 30)),
        st.tuples(st.just("next"), st.just(0), st.just(0)),
        st.tuples(st.just("compact"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS)
def test_every_owner_fires_once_at_its_latest_deadline(steps: list[tuple[str, int, int]]) -> None:
    bench = Bench()
    timers = bench.timers
    model: dict[int, int] = {}
    for step, n, amount in steps:
        owner = bench.owners[n]
        if step == "set":
            owner.set(bench.now + amount)
            model[n] = bench.now + amount
        elif step == "clear":  # the wait ended by its event: the entry stays
            owner.deadline = FAR
            model.pop(n, None)
        elif step == "disarm":
            owner.deadline = FAR
            if owner.timer_at != FAR:
                timers.disarm(owner)
            model.pop(n, None)
        elif step == "next":
            assert timers.next_deadline() == min(model.values(), default=FAR)
        elif step == "compact":
            timers._compact()
        else:
            bench.now += amount
            bench.fired.clear()
            timers.expire()
            due = {(name, when) for name, when in model.items() if when <= bench.now}
            assert set(bench.fired) == due
            assert len(bench.fired) == len(due)
            for name, _ in due:
                del model[name]
        assert len(timers) == bench.live()
        assert 0 <= timers._stale <= SLACK + len(timers._heap)
        for name, when in model.items():
            assert bench.owners[name].timer_at <= when
        if timers._heap:
            assert timers._armed <= max(timers._heap[0][0], bench.now)


@given(STEPS)
def test_the_timerfd_is_armed_at_or_before_the_earliest_deadline(
    steps: list[tuple[str, int, int]],
) -> None:
    # A kernel that is asked only when the armed time has come: nobody fires late.
    bench = Bench()
    model: dict[int, int] = {}
    for step, n, amount in steps:
        if step in ("set", "clear"):
            if step == "set":
                bench.owners[n].set(bench.now + amount)
                model[n] = bench.now + amount
            else:
                bench.owners[n].deadline = FAR
                model.pop(n, None)
        else:
            end = bench.now + amount
            while bench.timerfd.armed and bench.timerfd.armed[-1] <= end:
                bench.now = max(bench.now, bench.timerfd.armed[-1])
                bench.timerfd.armed.append(FAR)  # it fires once
                bench.timers.expire()
            bench.now = end
            assert {name for name, _ in bench.fired} >= {
                name for name, when in model.items() if when <= end
            }
            model = {name: when for name, when in model.items() if when > end}


def test_owners_with_the_same_deadline_fire_in_the_order_of_arming(bench: Bench) -> None:
    for n in (3, 1, 2):
        bench.owners[n].set(2000)
    bench.now = 2000
    bench.timers.expire()
    assert [name for name, _ in bench.fired] == [3, 1, 2]


@pytest.mark.parametrize("later", [False, True], ids=["due", "moved later"])
def test_a_signal_handler_that_raises_in_the_midst_loses_nobody(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    one, other, *_ = bench.owners
    one.set(2000)
    other.set(2000)
    if later:
        one.set(3000)

    def strike(heap: list[Any]) -> Any:
        heappop(heap)
        monkeypatch.undo()
        raise KeyError("a handler's, when heappop has returned")

    monkeypatch.setattr("greenpump.hub.timers.heappop", strike)
    bench.now = 2000
    with pytest.raises(KeyError):
        bench.timers.expire()
    bench.timers.expire()
    assert sorted(bench.fired) == ([(1, 2000)] if later else [(0, 2000), (1, 2000)])
    bench.now = 3000
    bench.timers.expire()
    assert (0, 3000 if later else 2000) in bench.fired
    assert len(bench.timers) == 0
    one.set(4000)
    assert one.timer_at == 4000


# -- syscalls ----------------------------------------------------------------------------------


def test_only_a_sooner_deadline_arms_the_timerfd(bench: Bench) -> None:
    a, b, c, *_ = bench.owners
    a.set(5000)
    b.set(6000)
    assert bench.timerfd.armed == [5000]
    c.set(4000)
    assert bench.timerfd.armed == [5000, 4000]
    c.deadline = FAR  # its event came
    for when in range(4001, 4999):
        c.set(when)
        c.deadline = FAR
    assert bench.timerfd.armed == [5000, 4000]


def test_a_deadline_that_moves_later_costs_nothing_until_the_entry_fires(bench: Bench) -> None:
    owner = bench.owners[0]
    for when in range(2000, 12_000):
        owner.set(when)
    assert len(bench.timers._heap) == 1
    assert bench.timerfd.armed == [2000]
    bench.now = 2000
    bench.timers.expire()
    assert bench.fired == []
    assert bench.timerfd.armed == [2000, 11_999]
    bench.now = 11_999
    bench.timers.expire()
    assert bench.fired == [(0, 11_999)]


def test_stale_entries_are_bounded(bench: Bench) -> None:
    owner = bench.owners[0]
    largest = 0
    for when in range(200_000, 100_000, -1):
        owner.set(when)
        largest = max(largest, len(bench.timers._heap))
    assert largest <= 2 * SLACK + 2
    assert len(bench.timers) == 1


def test_rearm_arms_for_the_earliest_again(bench: Bench) -> None:
    bench.owners[0].set(3000)
    bench.timers.rearm()
    assert bench.timerfd.armed == [3000, 3000]
    Bench().timers.rearm()


def test_a_clock_without_an_alarm_leaves_the_timerfd_alone(bench: Bench) -> None:
    bench.owners[0].set(9000)
    bench.timers.use_clock(lambda: 4000, alarm=False)
    bench.owners[1].set(5000)
    assert bench.timerfd.armed == [9000]
    bench.timers.use_clock(lambda: 1000, alarm=True)
    assert bench.timerfd.armed == [9000, 5000]


# -- seconds -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "deadline"),
    [
        (0, 1000),
        (0.0, 1000),
        (1e-9, 1001),
        (1, 1_000_001_000),
        (2.5, 2_500_001_000),
        (True, 1_000_001_000),
        (CENTURY, CENTURY * 10**9 + 1000),
        (CENTURY + 1, FAR),
        (1e300, FAR),
        (math.inf, FAR),
    ],
)
def test_after(seconds: float, deadline: int, bench: Bench) -> None:
    assert bench.timers.after(seconds) == deadline


@pytest.mark.parametrize("seconds", [-1, -1e-300, -math.inf, math.nan])
def test_after_refuses_what_is_no_time(seconds: float, bench: Bench) -> None:
    with pytest.raises(ValueError, match=r"NaN|must not be negative"):
        bench.timers.after(seconds)


@pytest.mark.parametrize("seconds", ["1", [], object(), 1j, b"x"])
def test_after_refuses_what_is_no_number(seconds: float, bench: Bench) -> None:
    with pytest.raises(TypeError):
        bench.timers.after(seconds)


# -- with the kernel ---------------------------------------------------------------------------


def test_never_early() -> None:
    early = []

    def sleeper(seconds: float) -> None:
        before = time.monotonic_ns()
        gp.sleep(seconds)
        slept = time.monotonic_ns() - before
        if slept < int(seconds * 1e9):
            early.append((seconds, slept))

    tasks = [gp.spawn(sleeper, n * 1e-4) for n in range(40) for _ in range(5)]
    for task in tasks:
        task.result()
    assert early == []


def test_a_cancelled_early_deadline_costs_one_spurious_wake_at_most(hub: Hub) -> None:
    task = gp.spawn(gp.sleep, 1e-3)
    gp.yield_now()
    task.cancel()
    task.join()
    before = hub.polls
    gp.sleep(3e-3)
    assert hub.polls - before <= 2
