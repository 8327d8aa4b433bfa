"""RateLimiter: a token bucket in virtual time, against a plain model, across hubs and threads."""

from __future__ import annotations

import math
import random
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenpump as gp
from greenpump.hub.local import this_hub
from greenpump.hub.pollable import QUOTA
from greenpump.sync.limiter import RateLimiter
from greenpump.testing import preemption_point, races, virtual_clock, wait_all_parked


def now() -> float:
    return this_hub().timers.clock() / 1e9


def when_served(limiter: RateLimiter, n: int = 1) -> float:
    limiter.wait(n)
    return now()


def nobody_stands_in(limiter: RateLimiter) -> bool:
    return not limiter._line and not limiter._waiting and limiter._queued == 0


@contextmanager
def whole_seconds() -> Iterator[None]:
    """A virtual clock that starts at a whole second, so that the sums of the tests are exact."""
    with virtual_clock() as clock:
        while odd := -this_hub().timers.clock() % 10**9:
            clock.advance(odd / 1e9)
        yield


# -- one after the other -------------------------------------------------------------------------


@whole_seconds()
def test_it_starts_full_and_fills_at_the_limit() -> None:
    limiter = RateLimiter(10, burst=3)
    assert [limiter.allow() for _ in range(4)] == [True, True, True, False]
    gp.sleep(0.1)
    assert [limiter.allow() for _ in range(2)] == [True, False]
    gp.sleep(0.25)
    assert [limiter.allow(2), limiter.allow()] == [True, False]
    gp.sleep(0.05)
    assert limiter.allow()
    gp.sleep(1000)
    assert [limiter.allow(4), limiter.allow(3), limiter.allow()] == [False, True, False]


@whole_seconds()
def test_asking_in_vain_costs_nothing() -> None:
    limiter = RateLimiter(1)
    limiter.wait()
    for _ in range(9):
        gp.sleep(0.1)
        assert not limiter.allow()
    gp.sleep(0.1)
    assert limiter.allow()


@whole_seconds()
def test_wait_parks_until_the_tokens_are_there() -> None:
    start = now()
    limiter = RateLimiter(4, burst=2)
    times = [when_served(limiter) - start for _ in range(6)]
    assert times == [0, 0, 0.25, 0.5, 0.75, 1]
    assert when_served(limiter, 2) - start == 1.5
    assert when_served(limiter, 0) - start == 1.5
    gp.sleep(10)
    assert when_served(limiter, 2) - start == 11.5
    assert when_served(limiter) - start == 11.75


@pytest.mark.parametrize("limit", [3, 7, 0.1, 1e6, 12345.678])
@whole_seconds()
def test_it_never_drifts(limit: float) -> None:
    limiter = RateLimiter(limit, burst=1)
    start = when_served(limiter)
    for _ in range(999):
        limiter.wait()
    assert now() - start == pytest.approx(999 / limit, rel=1e-9, abs=1e-5)
    for task in [gp.spawn(limiter.wait) for _ in range(1000)]:
        task.join()
    assert now() - start == pytest.approx(1999 / limit, rel=1e-9, abs=1e-5)


@whole_seconds()
def test_who_wants_more_is_not_overtaken() -> None:
    start = now()
    limiter = RateLimiter(1, burst=5)
    limiter.wait(5)
    amounts = [1, 4, 1, 5, 1]
    tasks = [gp.spawn(when_served, limiter, n) for n in amounts]
    wait_all_parked()
    assert not limiter.allow(0), "nor by allow"
    assert [task.result() - start for task in tasks] == [1, 5, 6, 11, 12]
    assert nobody_stands_in(limiter)


@whole_seconds()
def test_tokens() -> None:
    limiter = RateLimiter(2, burst=4)
    assert limiter.tokens == 4
    limiter.wait(3)
    assert limiter.tokens == 1
    gp.sleep(0.5)
    assert limiter.tokens == 2
    reservations = [limiter.reserve(4), limiter.reserve(1)]
    assert limiter.tokens == -3
    gp.sleep(1)
    assert limiter.tokens == -1
    gp.sleep(100)
    assert limiter.tokens == 4
    assert [each.delay() for each in reservations] == [0, 0]


@whole_seconds()
def test_infinity_lets_everything_pass() -> None:
    limiter = RateLimiter(math.inf)
    assert limiter.allow(10**9)
    limiter.wait(10**9)
    assert limiter.reserve(10**9).delay() == 0
    assert limiter.tokens == 1
    limiter.limit = 1
    assert [limiter.allow(), limiter.allow()] == [True, False]


@whole_seconds()
def test_a_limit_of_nothing_gives_the_burst_and_waits_for_a_better_one() -> None:
    limiter = RateLimiter(0, burst=2)
    limiter.wait(2)
    assert not limiter.allow()
    assert limiter.reserve().cancel()
    reservation = limiter.reserve()
    assert reservation.delay() == math.inf
    task = gp.spawn(when_served, limiter)
    gp.sleep(1e6)
    assert not task.done
    limiter.limit = 1
    start = now()
    assert reservation.delay() == 1
    assert task.result() == start + 2


@whole_seconds()
def test_with_a_limit_of_nothing_waiting_is_a_deadlock() -> None:
    limiter = RateLimiter(0)
    limiter.wait()
    with pytest.raises(gp.Deadlock, match=r"wait for 1 tokens of <RateLimiter at .*: 0 a second"):
        limiter.wait()
    assert nobody_stands_in(limiter)


@pytest.mark.parametrize("limit", [-1, math.nan, -math.inf])
def test_what_is_no_limit_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="0 or above"):
        RateLimiter(limit)
    limiter = RateLimiter(1)
    with pytest.raises(ValueError, match="0 or above"):
        limiter.limit = limit


@pytest.mark.parametrize("burst", [0, -1])
def test_what_is_no_burst_is_refused(burst: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        RateLimiter(1, burst)
    limiter = RateLimiter(1)
    with pytest.raises(ValueError, match="at least 1"):
        limiter.burst = burst


def test_what_is_no_number_of_tokens_is_refused() -> None:
    limiter = RateLimiter(1, burst=3)
    for call in (limiter.allow, limiter.wait, limiter.reserve):
        with pytest.raises(ValueError, match="must not be negative"):
            call(-1)
        with pytest.raises(TypeError):
            call(1.5)  # type: ignore[arg-type]
    for call in (limiter.wait, limiter.reserve):
        with pytest.raises(ValueError, match=r"4 tokens at once are never there: <Rate.*burst 3"):
            call(4)
    assert not limiter.allow(4)
    assert limiter.tokens == 3


def test_it_says_what_it_is() -> None:
    limiter = RateLimiter(2.5, burst=3)
    assert repr(limiter) == f"<RateLimiter at {id(limiter):#x}: 2.5 a second, burst 3>"
    with virtual_clock():
        limiter = RateLimiter(1)
        limiter.wait()
        reservation = limiter.reserve()
        assert repr(reservation) == "<Reservation of 1: due in 1.000 s>"
        assert repr(limiter).endswith("burst 1, 1 in line>")


# -- cancels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", [0, 1, 2])
@whole_seconds()
def test_who_gives_up_costs_those_behind_nothing(victim: int) -> None:
    start = now()
    limiter = RateLimiter(1, burst=4)
    limiter.wait(4)
    tasks = [gp.spawn(when_served, limiter, n) for n in (4, 3, 2)]
    gp.sleep(0.5)
    tasks[victim].cancel()
    tasks[victim].join()
    del tasks[victim]
    assert [task.result() - start for task in tasks] == [[3, 5], [4, 6], [4, 7]][victim]
    assert nobody_stands_in(limiter)


@whole_seconds()
def test_who_gives_up_late_leaves_what_has_gathered_to_the_next() -> None:
    start = now()
    limiter = RateLimiter(1, burst=10)
    limiter.wait(10)
    big = gp.spawn(limiter.wait, 10)
    small = [gp.spawn(when_served, limiter, 3) for _ in range(4)]
    gp.sleep(8)
    big.cancel()
    assert [task.result() - start for task in small] == [8, 8, 9, 12]
    assert limiter.tokens == 0


@whole_seconds()
def test_a_time_limit_at_the_very_moment_takes_the_tokens_or_leaves_them() -> None:
    limiter = RateLimiter(1)
    limiter.wait()
    with gp.move_on_after(1) as scope:
        limiter.wait()
    assert limiter.tokens == (1 if scope.expired else 0)
    assert nobody_stands_in(limiter)


class Unwound(Exception):
    pass


@whole_seconds()
def test_who_unwinds_with_his_tokens_gives_them_back() -> None:
    # As when a signal handler raises in the scheduler, just before the task goes on.
    limiter = RateLimiter(1)
    limiter.wait()
    hub = this_hub()

    def unlucky() -> None:
        wait = type(hub).wait

        def wait_and_raise(*args: Any) -> None:
            wait(*args)
            assert not limiter.allow()  # it settles: the task has been granted its token
            raise Unwound

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(hub), "wait", wait_and_raise)
            limiter.wait()

    task = gp.spawn(unlucky)
    assert isinstance(task.exception(), Unwound)
    assert nobody_stands_in(limiter)
    assert limiter.tokens == 1


def test_in_a_cancelled_scope_nobody_waits_but_what_is_there_is_given() -> None:
    with virtual_clock():
        limiter = RateLimiter(1)
        with gp.move_on_after() as scope:
            scope.cancel()
            limiter.wait()
        assert not scope.expired
        with gp.move_on_after() as scope:
            scope.cancel()
            limiter.wait()
        assert scope.expired
        assert nobody_stands_in(limiter)


@whole_seconds()
def test_a_wait_that_its_time_limit_would_end_ends_at_once() -> None:
    start = now()
    limiter = RateLimiter(1, burst=2)
    limiter.wait(2)
    told: list[str] = []
    with gp.timeout(9):
        with (
            pytest.raises(TimeoutError, match=r"2 tokens of .* come 0\.500 s after .* of 1\.5 s"),
            gp.timeout(1.5),
        ):
            limiter.wait(2)
        with gp.move_on_after(0.5) as quiet:
            gp.after_cancel(quiet, told.append, "hook")
            with gp.timeout(3):
                limiter.wait()
            told.append("never")
        assert quiet.expired
        gp.yield_now()
        assert told == ["hook"]
        assert now() == start, "all this took no time"
        assert nobody_stands_in(limiter)
        with gp.timeout(1):
            assert when_served(limiter) == start + 1, "at the very deadline is in time"
        with gp.timeout(0.5), gp.shield():
            assert when_served(limiter) == start + 2, "the limit around the shield is none in it"
    with gp.move_on_after(0.5) as outer, gp.move_on_after(0.5) as inner:
        limiter.wait()
    assert (outer.expired, inner.expired) == (True, False), "as at the deadline itself"


@whole_seconds()
def test_who_stands_behind_others_counts_their_turns_too() -> None:
    start = now()
    limiter = RateLimiter(1, burst=3)
    limiter.wait(3)
    first = gp.spawn(when_served, limiter, 3)
    reserved = limiter.reserve()
    wait_all_parked()
    with gp.move_on_after(4.5) as scope:
        limiter.wait()
    assert scope.expired
    assert now() == start
    reserved.cancel()
    with gp.move_on_after(4.5):
        assert when_served(limiter) == start + 4
    assert first.result() == start + 3


@whole_seconds()
def test_a_limit_of_nothing_is_waited_for_until_the_deadline() -> None:
    """Somebody may raise it: when, can't be known."""
    start = now()
    limiter = RateLimiter(0)
    limiter.wait()
    with gp.move_on_after(2) as scope:
        limiter.wait()
    assert scope.expired
    assert now() == start + 2


def test_who_never_has_to_wait_lets_the_others_run() -> None:
    limiter = RateLimiter(math.inf)
    turns = 0

    def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            gp.yield_now()

    task = gp.spawn(other)
    for _ in range(10 * QUOTA):
        limiter.wait()
    assert 5 <= turns <= 40
    task.cancel()
    task.join()


@whole_seconds()
def test_twenty_thousand_cancelled_waits_leave_nothing() -> None:
    limiter = RateLimiter(1)
    limiter.wait()
    for _ in range(10):
        tasks = [gp.spawn(limiter.wait) for _ in range(1000)]
        wait_all_parked()
        for task in tasks:
            task.cancel()
        wait_all_parked()
        assert nobody_stands_in(limiter)
    for task in [gp.spawn(scoped_wait, limiter) for _ in range(10_000)]:
        task.join()
    assert nobody_stands_in(limiter)
    assert len(this_hub().timers) <= 1


def scoped_wait(limiter: RateLimiter) -> None:
    with gp.move_on_after(0.01):
        limiter.wait()


# -- reservations --------------------------------------------------------------------------------


@whole_seconds()
def test_a_reservation_says_when() -> None:
    limiter = RateLimiter(2, burst=2)
    delays = [limiter.reserve().delay() for _ in range(5)]
    assert delays == [0, 0, 0.5, 1, 1.5]
    reservation = limiter.reserve(2)
    gp.sleep(1)
    assert reservation.delay() == 1.5
    gp.sleep(1.5)
    assert reservation.delay() == 0
    assert not reservation.cancel(), "its time has come"
    assert not limiter.allow()


@whole_seconds()
def test_a_reservation_that_is_cancelled_moves_the_others_up() -> None:
    start = now()
    limiter = RateLimiter(1, burst=3)
    limiter.wait(3)
    first, second = limiter.reserve(3), limiter.reserve(1)
    task = gp.spawn(when_served, limiter, 2)
    third = limiter.reserve(1)
    wait_all_parked()
    third_behind = limiter.reserve(1)
    assert (second.delay(), third.delay(), third_behind.delay()) == (4, 5, 8)
    gp.sleep(0.5)
    assert first.cancel()
    assert not first.cancel()
    assert first.delay() == 0
    assert (second.delay(), third.delay(), third_behind.delay()) == (0.5, 1.5, 4.5)
    assert third.cancel()
    assert task.result() - start == 3
    assert third_behind.delay() == 1


@whole_seconds()
def test_reservations_need_nobody_to_come_due() -> None:
    limiter = RateLimiter(1, burst=1)
    limiter.wait()
    reservations = [limiter.reserve() for _ in range(3)]
    gp.sleep(3.5)
    assert not limiter.allow(), "what has come since belongs to them"
    gp.sleep(0.5)
    assert [each.delay() for each in reservations] == [0, 0, 0]
    assert limiter.allow()


def test_ten_thousand_reservations_are_made_and_dropped_in_no_time() -> None:
    with virtual_clock():
        limiter = RateLimiter(1)
        reservations = [limiter.reserve() for _ in range(10_000)]
        assert reservations[-1].delay() == 9999
        assert all(each.cancel() for each in reservations[1:])
        assert nobody_stands_in(limiter)


# -- changes -------------------------------------------------------------------------------------


@whole_seconds()
def test_those_in_line_go_by_the_new_limit() -> None:
    start = now()
    limiter = RateLimiter(1)
    limiter.wait()
    tasks = [gp.spawn(when_served, limiter) for _ in range(4)]
    gp.sleep(1.5)
    limiter.limit = 0.1
    assert limiter.limit == 0.1
    gp.sleep(2)
    limiter.limit = 100
    assert [round(task.result() - start, 6) for task in tasks] == [1, 3.503, 3.513, 3.523]


@whole_seconds()
def test_those_in_line_get_what_they_asked_for_though_the_burst_is_less_now() -> None:
    start = now()
    limiter = RateLimiter(1, burst=5)
    limiter.wait(5)
    task = gp.spawn(when_served, limiter, 5)
    wait_all_parked()
    limiter.burst = 2
    assert task.result() - start == 5
    gp.sleep(100)
    assert limiter.tokens == 2
    limiter.burst = 7
    assert limiter.burst == 7
    assert limiter.tokens == 2
    gp.sleep(100)
    assert limiter.tokens == 7
    limiter.burst = 3
    assert limiter.tokens == 3


# -- against a plain model -----------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(0, 4)),
        st.tuples(st.just("wait"), st.integers(1, 4)),
        st.tuples(st.just("reserve"), st.integers(0, 4)),
        st.tuples(st.just("allow"), st.integers(0, 5)),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.just("limit"), st.sampled_from([1, 2, 4])),
        st.tuples(st.just("sleep"), st.integers(1, 9)),
    ),
    max_size=40,
)
TICK = 0.25  # a token at limit 4: all numbers below are exact


class Model:
    """A bucket that is filled tick by tick; tokens in quarters."""

    def __init__(self, limit: int, burst: int) -> None:
        self.limit, self.burst = limit, 4 * burst
        self.level = self.burst
        self.line: deque[tuple[int, int]] = deque()
        self.served: dict[int, int] = {}
        self.time = 0

    def serve(self) -> None:
        while self.line and 4 * self.line[0][1] <= self.level:
            who, n = self.line.popleft()
            self.level -= 4 * n
            self.served[who] = self.time
        if not self.line:
            self.level = min(self.level, self.burst)

    def tick(self) -> None:
        self.time += 1
        self.level += self.limit
        self.serve()

    def ask(self, who: int, n: int) -> None:
        self.line.append((who, n))
        self.serve()


@given(steps=STEPS)
def test_it_does_what_the_model_does(steps: list[tuple[str, int]]) -> None:
    with virtual_clock():
        limiter, model = RateLimiter(2, burst=4), Model(2, 4)
        start = now()
        asked: list[Any] = []
        given_up = set()
        for step, amount in steps:
            if step == "wait":
                model.ask(len(asked), amount)
                asked.append(gp.spawn(when_served, limiter, amount))
            elif step == "reserve":
                model.ask(len(asked), amount)
                asked.append(limiter.reserve(amount))
            elif step == "allow":
                allowed = not model.line and 4 * amount <= model.level
                assert limiter.allow(amount) == allowed
                if allowed:
                    model.level -= 4 * amount
            elif step == "cancel" and amount < len(asked):
                asked[amount].cancel()
                if amount not in model.served:
                    given_up.add(amount)
                    model.line = deque(each for each in model.line if each[0] != amount)
                    model.serve()
            elif step == "limit":
                limiter.limit = model.limit = amount
            elif step == "sleep":
                for _ in range(amount):
                    model.tick()
                gp.sleep(amount * TICK)
            gp.yield_now()
            wait_all_parked()
            wanted = sum(n for _, n in model.line)
            assert limiter.tokens == pytest.approx(model.level / 4 - wanted, abs=1e-6)
            for who, each in enumerate(asked):
                served = model.served.get(who)
                if isinstance(each, gp.Task):
                    assert each.done == (served is not None or who in given_up)
                    if served is not None:  # in the course of that tick
                        ticks = (each.result() - start) / TICK
                        assert served - 1 - 1e-6 < ticks < served + 1e-6
                elif who not in given_up:
                    assert (each.delay() == 0) == (served is not None)
        for each in asked:
            each.cancel()
        for each in asked:
            if isinstance(each, gp.Task):
                each.join()
        assert nobody_stands_in(limiter)


# -- hubs and threads ----------------------------------------------------------------------------


def test_several_hubs_and_threads_together_keep_the_limit() -> None:
    limiter = RateLimiter(20_000, burst=5)
    times: list[float] = []

    def client(n: int) -> None:
        for _ in range(50):
            limiter.wait(n)
            times.extend([now()] * n)

    def main() -> None:
        here, there = gp.hubs()
        tasks = [gp.spawn_on(hub, client, n) for hub in (here, there) for n in (1, 2)]
        threads = [threading.Thread(target=client, args=(1,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for task in tasks:
            task.result()
        for thread in threads:
            gp.offload(thread.join)

    start = now()
    gp.run(main, hubs=2)
    times.sort()
    assert len(times) == 400
    for number, when in enumerate(times):
        assert when - start >= (number + 1 - 5) / 20_000 - 1e-6, number
    assert nobody_stands_in(limiter)


def test_cancels_that_race_the_grant_lose_no_token() -> None:
    limiter = RateLimiter(50_000, burst=1)
    taken = [0, 0]

    def hasty(me: int) -> None:
        for _ in range(200):
            with gp.move_on_after(3e-5) as scope:
                limiter.wait()
            taken[me] += not scope.expired

    def main() -> None:
        tasks = [gp.spawn_on(hub, hasty, me) for me, hub in enumerate(gp.hubs())]
        for task in tasks:
            task.result()

    gp.run(main, hubs=2)
    assert sum(taken) > 0
    assert nobody_stands_in(limiter)
    limiter.limit = 0
    assert limiter.tokens <= 1


def test_a_line_moves_on_though_the_thread_of_its_first_stands_still() -> None:
    limiter = RateLimiter(1000)
    limiter.wait()
    holds, go_on = threading.Event(), threading.Event()

    def stuck() -> None:
        task = gp.spawn(limiter.wait)
        wait_all_parked()
        holds.set()
        go_on.wait()  # in the kernel, the hub and all its tasks with it
        task.join()

    thread = threading.Thread(target=stuck)
    thread.start()
    holds.wait()
    limiter.wait()  # its own deadline also serves the first
    go_on.set()
    thread.join()
    assert nobody_stands_in(limiter)


# -- under many seeds ----------------------------------------------------------------------------


@races(seeds=300)
def test_no_interleaving_loses_a_token_or_gives_one_too_many() -> None:
    burst = random.randrange(2, 5)
    limiter = RateLimiter(1000, burst)
    start = now()
    taken: list[tuple[float, int]] = []

    def client() -> None:
        for _ in range(6):
            preemption_point()
            n = random.randrange(1, burst + 1)
            with gp.move_on_after(random.choice([None, None, 0.001, 0.004])):
                limiter.wait(n)
                taken.append((now() - start, n))

    def reserver() -> None:
        for _ in range(6):
            n = random.randrange(1, burst + 1)
            reservation = limiter.reserve(n)
            gp.sleep(random.choice([0.001, 0.003]))
            if random.random() < 0.5 and reservation.cancel():
                continue
            while delay := reservation.delay():
                gp.sleep(delay)
            taken.append((now() - start, n))

    def glutton() -> None:  # so that the bucket is never full
        while not over.is_set():
            limiter.wait()
            taken.append((now() - start, 1))

    over = gp.Event()
    last = gp.spawn(glutton)
    tasks = [gp.spawn(client) for _ in range(4)] + [gp.spawn(reserver)]
    gp.sleep(0.005)
    random.choice(tasks[:4]).cancel()
    for task in tasks:
        task.join()
    over.set()
    last.join()
    assert nobody_stands_in(limiter)
    given = 0
    for when, n in sorted(taken):
        given += n
        assert given <= burst + 1000 * when + 1e-6
    assert limiter.tokens == pytest.approx(burst + 1000 * (now() - start) - given, abs=1e-3)
    gp.sleep(1)
    assert limiter.tokens == burst


def test_without_a_limit_above_0_what_is_in_the_bucket_can_be_reserved() -> None:
    limiter = RateLimiter(0, 2)
    assert [limiter.reserve().delay() for _ in range(3)] == [0.0, 0.0, math.inf]
