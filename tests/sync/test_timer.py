"""Timer and Ticker by Go's rules, spawn_later; in virtual time, across hubs and threads."""

from __future__ import annotations

import gc
import math
import random
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.hub.local import this_hub
from greenpump.hub.timers import FAR
from greenpump.sync.cases import joined
from greenpump.sync.timer import Ticker, Timer, after, spawn_later
from greenpump.testing import preemption_point, races, virtual_clock, wait_all_parked

NEVER = object()


def now() -> float:
    return this_hub().timers.clock() / 1e9


def entries() -> int:
    """How many deadlines this hub's heap holds."""
    return len(this_hub().timers)


@contextmanager
def whole_seconds() -> Iterator[None]:
    """A virtual clock that starts at a whole second, so that the sums of the tests are exact."""
    with virtual_clock() as clock:
        while odd := -this_hub().timers.clock() % 10**9:
            clock.advance(odd / 1e9)
        yield


# -- Timer ---------------------------------------------------------------------------------------


@whole_seconds()
def test_it_is_received_once_when_its_time_has_come() -> None:
    start = now()
    timer = Timer(2.5)
    assert timer.try_recv() is None
    assert timer.recv() == now() == start + 2.5
    assert timer.try_recv(NEVER) is NEVER
    assert gp.select(timer, timeout=10) is None


@whole_seconds()
def test_who_comes_late_gets_the_time_it_was_due() -> None:
    start = now()
    timer = Timer(1)
    gp.sleep(5)
    assert timer.recv() == start + 1
    assert now() == start + 5


@pytest.mark.parametrize("seconds", [0, 0.0, False])
def test_one_of_no_time_is_due_at_once(seconds: float) -> None:
    assert Timer(seconds).try_recv() is not None


@pytest.mark.parametrize("seconds", [-1, -1e-300, math.nan, -math.inf])
def test_what_is_no_time_is_refused(seconds: float) -> None:
    fns: list[Callable[[float], object]] = [Timer, Ticker, after, Timer(1).reset, Ticker(1).reset]
    fns.append(lambda seconds: spawn_later(seconds, print))
    for fn in fns:
        with pytest.raises(ValueError, match=r"NaN|must not be negative"):
            fn(seconds)
    assert entries() == 0


@whole_seconds()
def test_stop_tells_whether_it_came_in_time() -> None:
    timer = Timer(1)
    assert timer.stop()
    assert not timer.stop()
    assert gp.select(timer, timeout=5) is None
    timer = Timer(1)
    timer.recv()
    assert not timer.stop()
    timer = Timer(1)
    gp.sleep(5)
    assert timer.stop(), "it was due, but nobody has received it, and nobody will (Go 1.23)"
    assert timer.try_recv() is None


@whole_seconds()
def test_reset_leaves_nothing_of_the_time_before() -> None:
    start = now()
    timer = Timer(1)
    gp.sleep(5)
    assert timer.reset(3)
    assert timer.try_recv() is None, "no stale time"
    assert timer.recv() == start + 8
    assert not timer.reset(1)
    assert timer.recv() == start + 9
    timer.stop()
    assert not timer.reset(1)
    assert timer.recv() == start + 10


@whole_seconds()
def test_who_waits_goes_on_waiting_for_the_new_time() -> None:
    start = now()
    for first, then in ((5, 9), (9, 5), (math.inf, 1), (3, 3)):
        timer = Timer(first)
        task = gp.spawn(timer.recv)
        wait_all_parked()
        assert timer.reset(then)
        assert task.result() == now() == start + then
        assert entries() == 0
        start = now()


@whole_seconds()
def test_who_waits_for_one_that_is_stopped_waits_until_it_is_reset() -> None:
    timer = Timer(1)
    task = gp.spawn(timer.recv)
    wait_all_parked()
    assert timer.stop()
    gp.sleep(10)
    assert not task.done
    timer.reset(2)
    assert task.result() == now()
    assert entries() == 0


@whole_seconds()
def test_one_of_those_who_wait_gets_it_the_first() -> None:
    timer = Timer(1)
    tasks = [gp.spawn(timer.recv) for _ in range(3)]
    gp.sleep(5)
    assert [task.done for task in tasks] == [True, False, False]
    timer.reset(1)
    gp.sleep(5)
    assert [task.done for task in tasks] == [True, True, False]
    tasks[2].cancel()
    tasks[2].join()
    assert entries() == 0


def test_who_comes_when_it_is_due_does_not_overtake_who_waits() -> None:
    with virtual_clock() as clock:
        timer = Timer(1)
        task = gp.spawn(timer.recv)
        wait_all_parked()
        clock.advance(2)
        assert timer.try_recv() is None
        assert gp.select(timer, timeout=0) is None
        assert task.result() == pytest.approx(now() - 1)
        ticker = Ticker(1)
        task = gp.spawn(ticker.recv)
        wait_all_parked()
        clock.advance(1)
        late = gp.spawn(ticker.recv)
        assert (task.result(), late.result()) == pytest.approx((now() - 1, now()))


@whole_seconds()
def test_who_is_cancelled_leaves_the_time_to_the_next() -> None:
    timer = Timer(2)
    first, second = gp.spawn(timer.recv), gp.spawn(timer.recv)
    gp.sleep(1)
    first.cancel()
    assert second.result() == now()
    assert first.cancelled
    timer.reset(2)
    with gp.move_on_after(2) as scope:
        timer.recv()
    # The scope's deadline and the timer's are the same: one or the other, never neither nor both.
    assert scope.expired == (timer.try_recv() is not None)


@whole_seconds()
def test_it_never_fires_for_infinity() -> None:
    timer = Timer(math.inf)
    assert gp.select(timer, timeout=1e9) is None
    assert timer.stop()


def test_it_says_when_it_is_due() -> None:
    with virtual_clock():
        timer = Timer(2.5)
        assert repr(timer) == f"<Timer at {id(timer):#x}: due in 2.500 s>"
        timer.reset(0)
        assert "due>" in repr(timer)
        timer.reset(math.inf)
        assert "never due" in repr(timer)
        timer.stop()
        assert "stopped" in repr(timer)
        assert "every 0.5 s, due in 0.500 s" in repr(Ticker(0.5))


# -- select --------------------------------------------------------------------------------------


@whole_seconds()
def test_the_earliest_of_several_wins_a_select() -> None:
    start = now()
    timers = [Timer(3), Timer(1), Timer(2)]
    assert [gp.select(*timers) for _ in timers] == [(1, start + 1), (2, start + 2), (0, start + 3)]
    assert entries() == 0
    assert not any(timer._waiting for timer in timers)


@whole_seconds()
def test_with_a_channel() -> None:
    channel = gp.Channel[str]()
    timer = after(1)

    def sender() -> None:
        gp.sleep(0.5)
        channel.send("a")
        gp.sleep(3)
        channel.send("b")

    task = gp.spawn(sender)
    assert gp.select(gp.receiving(channel), timer) == (0, "a")
    assert gp.select(gp.receiving(channel), timer) == (1, now())
    assert gp.select(timer, gp.receiving(channel)) == (1, "b")
    task.join()
    assert entries() == 0


@whole_seconds()
def test_receiving_takes_a_timer_too() -> None:
    timer, ticker = Timer(1), Ticker(2)
    assert gp.select(gp.receiving(timer), gp.receiving(ticker)) == (0, now())
    assert gp.select(gp.receiving(timer), gp.receiving(ticker)) == (1, now())


@whole_seconds()
def test_what_wins_the_select_leaves_the_timer_alone() -> None:
    timer, event = Timer(5), gp.Event()
    task = gp.spawn(gp.select, timer, event)
    wait_all_parked()
    event.set()
    assert task.result() == (1, event)
    assert entries() == 0
    assert timer.recv() == now()


def test_a_select_that_was_claimed_while_it_joins_takes_no_time() -> None:
    timer = Timer(0)
    selection = joined([], [])
    assert selection.claim(7, "first")
    seat = timer.joined(selection, 0)
    assert (selection.number, selection.value) == (7, "first")
    timer.left(seat)
    assert timer.try_recv() is not None
    assert entries() == 0


def test_ready_cases_are_drawn_evenly() -> None:
    wins = [0, 0]
    for _ in range(1000):
        which, _when = gp.select(Timer(0), Timer(0))
        wins[which] += 1
    assert 400 < wins[0] < 600


@whole_seconds()
def test_a_loop_of_selects_with_after_fills_no_heap() -> None:
    channel = gp.Channel[int](1)
    for number in range(5000):
        task = gp.spawn(channel.send, number)
        assert gp.select(gp.receiving(channel), after(3600)) == (0, number)
        task.join()
    assert entries() == 0
    assert len(this_hub().timers._heap) < 2000


def test_the_timers_of_nobody_are_garbage() -> None:
    timers = [Timer(3600), Ticker(3600)]
    gone = [weakref.ref(timer) for timer in timers]
    gp.select(*timers, timeout=1e-6)
    assert entries() == 0
    timers.clear()
    this_hub().timers._compact()
    gc.collect()
    assert [each() for each in gone] == [None, None]


# -- against a model -----------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("reset"), st.integers(0, 9)),
        st.tuples(st.just("stop"), st.just(0)),
        st.tuples(st.just("wait"), st.just(0)),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.just("try"), st.just(0)),
        st.tuples(st.just("sleep"), st.integers(1, 12)),
    ),
    max_size=30,
)


@given(first=st.integers(0, 9), steps=STEPS)
def test_it_does_what_the_model_does(first: int, steps: list[tuple[str, int]]) -> None:
    with virtual_clock():
        start = now()
        timer = Timer(first)
        due: int | None = first
        passed = 0
        tasks: list[gp.Task[float]] = []
        line: list[int] = []
        results: dict[int, int | None] = {}  # when it got its time; None: cancelled

        def settle() -> None:
            nonlocal due
            if line and due is not None and due <= passed:
                results[line.pop(0)] = due
                due = None

        for step, amount in steps:
            if step == "reset":
                assert timer.reset(amount) == (due is not None)
                due = passed + amount
            elif step == "stop":
                assert timer.stop() == (due is not None)
                due = None
            elif step == "wait":
                line.append(len(tasks))
                tasks.append(gp.spawn(timer.recv))
            elif step == "try":
                got = timer.try_recv()
                if due is not None and due <= passed:
                    assert got is not None
                    due = None
                else:
                    assert got is None
            elif step == "cancel" and line:
                victim = line.pop(amount % len(line))
                tasks[victim].cancel()
                results[victim] = None
            if step == "sleep":
                passed += amount
                gp.sleep(amount)
            settle()
            wait_all_parked()
            for number, task in enumerate(tasks):
                assert task.done == (number in results), (step, number)
                if task.done:
                    when = results[number]
                    assert task.cancelled == (when is None)
                    if when is not None:
                        assert task.result() - start == pytest.approx(when, abs=1e-6)
        for number in line:
            tasks[number].cancel()
            tasks[number].join()
        assert entries() == 0
        assert not timer._waiting


# -- Ticker --------------------------------------------------------------------------------------


@whole_seconds()
def test_it_ticks() -> None:
    start = now()
    ticker = Ticker(0.5)
    for number in range(1, 5):
        assert ticker.recv() == now() == pytest.approx(start + number / 2)


@whole_seconds()
def test_late_ticks_are_dropped_and_the_beat_is_kept() -> None:
    start = now()
    ticker = Ticker(1)
    gp.sleep(3.5)
    assert (ticker.recv(), now()) == (start + 1, start + 3.5)
    assert (ticker.recv(), now()) == (start + 4, start + 4)
    gp.sleep(1)
    assert (ticker.recv(), now()) == (start + 5, start + 5)
    gp.sleep(0.9)
    assert (ticker.recv(), now()) == (start + 6, start + 6)
    gp.sleep(1e6)
    assert ticker.recv() == start + 7
    assert ticker.recv() == now() == start + 1_000_007


@whole_seconds()
def test_a_loop_over_it_ends_when_it_is_stopped() -> None:
    start = now()
    ticker = Ticker(2)
    spawn_later(7, ticker.stop)
    assert [tick - start for tick in ticker] == [2, 4, 6]
    assert now() == start + 7
    assert list(ticker) == []
    assert not ticker.stop()
    assert not ticker.reset(1)
    assert next(ticker) == start + 8
    assert ticker.reset(10)
    assert next(ticker) == start + 18
    assert entries() == 0


@whole_seconds()
def test_stop_ends_every_loop_and_leaves_no_stale_tick() -> None:
    ticker = Ticker(1)

    def count() -> int:
        return sum(1 for _ in ticker)

    tasks = [gp.spawn(count) for _ in range(3)]
    gp.sleep(9.5)
    assert ticker.stop()
    counts = [task.result() for task in tasks]
    assert counts == [3, 3, 3], "they take turns"
    ticker.reset(1)
    gp.sleep(3)
    ticker.stop()
    assert ticker.try_recv() is None


@whole_seconds()
def test_who_waits_in_recv_waits_on_when_it_is_stopped() -> None:
    ticker = Ticker(1)
    task = gp.spawn(ticker.recv)
    wait_all_parked()
    assert ticker.stop()
    gp.sleep(5)
    assert not task.done
    ticker.reset(3)
    assert task.result() == now()


@pytest.mark.parametrize("seconds", [0, 0.0, -0.0])
def test_a_period_of_nothing_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="above 0 s"):
        Ticker(seconds)
    ticker = Ticker(1)
    with pytest.raises(ValueError, match="above 0 s"):
        ticker.reset(seconds)


@whole_seconds()
def test_a_period_below_the_clocks_resolution_ticks_all_the_same() -> None:
    ticker = Ticker(1e-12)
    gp.sleep(1e-6)
    assert ticker.try_recv() is not None
    assert ticker.try_recv() is None
    assert Ticker(math.inf).try_recv() is None


# -- spawn_later ---------------------------------------------------------------------------------


@whole_seconds()
def test_a_task_starts_later() -> None:
    start = now()
    log: list[tuple[str, float]] = []

    def note(name: str, *, again: float = 0) -> str:
        log.append((name, now() - start))
        gp.sleep(again)
        return name.upper()

    tasks = [
        spawn_later(3, note, "c"),
        spawn_later(1, note, "a", again=5),
        spawn_later(1, note, "b"),
    ]
    assert [task.result() for task in tasks] == ["C", "A", "B"]
    assert log == [("a", 1), ("b", 1), ("c", 3)]
    assert now() == start + 6


@whole_seconds()
def test_before_its_time_it_has_no_stack_and_says_what_it_waits_for() -> None:
    task = spawn_later(2.5, print)
    assert task.glet is None
    assert task.state() == "not started: due in 2.500 s"
    assert "test_timer.py" in task.spawned_at()
    task.cancel()
    assert task.cancelled


@whole_seconds()
def test_cancelled_before_its_time_it_never_starts() -> None:
    started: list[int] = []
    task = spawn_later(2, started.append, 1)
    joiner = gp.spawn(task.result)
    gp.sleep(1)
    task.cancel("no longer wanted")
    assert task.done
    assert isinstance(joiner.exception(), gp.TaskCancelled)
    assert isinstance(task.error, gp.Cancelled)
    assert str(task.error) == "no longer wanted"
    gp.sleep(5)
    assert started == []
    assert entries() == 0
    task.cancel()


def test_each_that_was_cancelled_says_so_with_an_error_of_its_own() -> None:
    tasks = [spawn_later(60, print) for _ in range(2)]
    for task in tasks:
        task.cancel()
    assert all(task.cancelled for task in tasks)
    errors = [task.exception() for task in tasks]
    assert errors[0] is not errors[1]
    for task, error in zip(tasks, errors, strict=True):
        assert isinstance(error, gp.TaskCancelled)
        assert task.name in str(error)
    cause = LookupError("nobody asks any more")
    task = spawn_later(60, print)
    task.cancel(cause)
    error = task.exception()
    assert error is not None
    assert error.__cause__ is cause


@whole_seconds()
def test_a_cancel_that_comes_when_it_has_started_is_an_ordinary_one() -> None:
    cleaned = []

    def work() -> None:
        try:
            gp.sleep(10)
        finally:
            cleaned.append(now())

    task = spawn_later(1, work)
    gp.sleep(2)
    task.cancel()
    task.join()
    assert task.cancelled
    assert len(cleaned) == 1


@whole_seconds()
def test_a_cancel_between_its_time_and_its_start_keeps_it_from_starting() -> None:
    started: list[int] = []
    hub = this_hub()
    task = spawn_later(1, started.append, 1)
    with virtual_time_passed(hub, 2):
        hub.timers.expire()
    assert task in hub.ready
    task.cancel()
    task.join()
    assert (started, task.cancelled) == ([], True)


class virtual_time_passed:
    """As if the task had computed for so long."""

    def __init__(self, hub: Hub, seconds: int) -> None:
        self.hub = hub
        self.real = hub.timers.clock
        self.later = hub.timers.clock() + seconds * 10**9

    def __enter__(self) -> None:
        self.hub.timers.clock = lambda: self.later

    def __exit__(self, *_: object) -> None:
        self.hub.timers.clock = self.real


@whole_seconds()
def test_its_deadlines_are_its_own() -> None:
    def work() -> str:
        assert gp.current().deadline == gp.current().timer_at == FAR
        with gp.move_on_after(1) as scope:
            gp.sleep(5)
        return "cut short" if scope.expired else "not"

    assert spawn_later(3, work).result() == "cut short"


tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


@whole_seconds()
def test_it_runs_in_the_context_of_the_call() -> None:
    tenant.set("alice")
    task = spawn_later(1, tenant.get)
    tenant.set("bob")
    assert task.result() == "alice"


@whole_seconds()
def test_its_error_is_not_lost() -> None:
    with pytest.raises(ZeroDivisionError):
        spawn_later(1, lambda: 1 // 0).result()


@pytest.mark.parametrize("seconds", [math.inf, 1e300])
def test_never_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="never"):
        spawn_later(seconds, print)


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="needs a callable, not 3"):
        spawn_later(1, 3)  # type: ignore[arg-type]


def test_a_pending_one_is_something_to_come() -> None:
    event = gp.Event()
    spawn_later(1e-3, event.set)
    event.wait()  # no Deadlock
    timer = Timer(1e-3)
    timer.recv()


@whole_seconds()
def test_a_timer_that_nobody_waits_for_wakes_nobody_and_is_no_hope() -> None:
    timer, ticker = Timer(1), Ticker(1)
    with pytest.raises(gp.Deadlock):
        gp.Event().wait()
    timer.stop()
    with pytest.raises(gp.Deadlock, match=r"select of <Timer at .*: stopped>"):
        timer.recv()
    assert ticker.try_recv() is None


def test_the_end_of_the_program_cancels_it() -> None:
    started: list[int] = []

    def main() -> list[gp.Task[None]]:
        _, there = gp.hubs()
        return [
            spawn_later(3600, started.append, 1),
            gp.spawn_on(there, spawn_later, 3600.0, started.append, 2).result(),
        ]

    tasks = gp.run(main, hubs=2)
    assert [task.cancelled for task in tasks] == [True, True]
    assert started == []


@whole_seconds()
def test_it_is_among_the_tasks_that_a_report_shows() -> None:
    task = spawn_later(60, print)
    assert task in this_hub().live_tasks()
    assert f"task {task.name}: not started: due in 60.000 s" in gp.dump(file=None)
    task.cancel()
    assert task not in this_hub().live_tasks()


# -- hubs and threads ----------------------------------------------------------------------------


def in_thread(fn: Callable[[], Any]) -> Any:
    """What ``fn`` returns in a thread of its own, which has ended then."""
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(fn()))
    thread.start()
    thread.join()
    return result[0]


def test_one_that_a_thread_has_set_fires_though_the_thread_has_ended() -> None:
    timer = in_thread(lambda: Timer(1e-3))
    assert timer.recv() <= now()
    ticker = in_thread(lambda: Ticker(1e-4))
    assert ticker.recv() < ticker.recv() <= now()


def waits_on(timer: Timer, ready: threading.Event) -> float:
    def tell() -> None:
        wait_all_parked()
        ready.set()

    gp.spawn(tell)
    return timer.recv()


@pytest.mark.parametrize("first", [math.inf, 3600])
def test_another_thread_sets_it_sooner(first: float) -> None:
    timer = Timer(first)
    ready = threading.Event()
    received: list[float] = []
    thread = threading.Thread(target=lambda: received.append(waits_on(timer, ready)))
    thread.start()
    ready.wait()
    assert timer.reset(0)
    thread.join()
    assert len(received) == 1
    assert timer.try_recv() is None


def test_another_thread_stops_and_resets_it() -> None:
    timer = Timer(3600)
    ready = threading.Event()
    received: list[float] = []
    thread = threading.Thread(target=lambda: received.append(waits_on(timer, ready)))
    thread.start()
    ready.wait()
    assert timer.stop()
    assert not timer.reset(3600)
    assert timer.reset(1e-3)
    thread.join()
    assert len(received) == 1


def test_of_several_hubs_that_wait_one_gets_each_time() -> None:
    timer = Timer(math.inf)
    received: list[tuple[str, float]] = []
    turn = gp.Channel[None]()

    def receiver(name: str) -> None:
        while True:
            received.append((name, timer.recv()))
            turn.send(None)

    def main() -> None:
        here, there = gp.hubs()
        for name, hub in (("a", here), ("b", there), ("c", there), ("d", here)):
            gp.spawn_on(hub, receiver, name)
        for number in range(200):
            assert timer.reset(0 if number % 2 else 1e-5) == (number == 0)
            turn.recv()

    gp.run(main, hubs=2)
    assert len(received) == 200
    times = [when for _, when in received]
    assert times == sorted(times)
    assert len({name for name, _ in received}) > 1


def test_stop_and_fire_at_once_agree() -> None:
    # Whether stop came in time and whether somebody received it: exactly one of the two.
    def main() -> None:
        _, there = gp.hubs()
        asks, answers = gp.Channel[Timer](), gp.Channel[bool]()

        def receiver() -> None:
            for timer in asks:
                answers.send(gp.select(timer, timeout=3e-4) is not None)

        task = gp.spawn_on(there, receiver)
        fired = 0
        for number in range(300):
            timer = Timer(1e-4)
            asks.send(timer)
            while this_hub().timers.clock() < (timer._when or 0) + number * 100 - 20_000:
                pass
            stopped = timer.stop()
            received = answers.recv()
            assert stopped != received
            fired += received
        asks.close()
        task.join()

    gp.run(main, hubs=2)


def test_a_delayed_task_of_another_hub_is_cancelled_from_here() -> None:
    started: list[int] = []

    def main() -> None:
        _, there = gp.hubs()
        task = gp.spawn_on(there, spawn_later, 3600.0, started.append, 1).result()
        assert task.hub is there
        task.cancel()
        task.join()
        assert task.cancelled

    gp.run(main, hubs=2)
    assert started == []


# -- cost ----------------------------------------------------------------------------------------


def test_pending_timers_cost_the_hub_nothing() -> None:
    hub = this_hub()
    timers = [Timer(60) for _ in range(10_000)]
    assert len(hub.timers._heap) == 0
    assert all(timer.stop() for timer in timers)


def test_a_hundred_thousand_delayed_tasks_are_cancelled_in_no_time_and_leave_nothing() -> None:
    hub = this_hub()
    tasks = [spawn_later(3600, print) for _ in range(100_000)]
    assert entries() == 100_000
    for task in tasks:
        task.cancel()
    assert entries() == 0
    assert len(hub.timers._heap) < 2000
    assert not hub.ready
    assert all(task.cancelled for task in tasks)


# -- under many seeds ----------------------------------------------------------------------------


@races(seeds=300)
def test_each_time_is_received_or_taken_back_exactly_once() -> None:
    timer = Timer(0.002)
    times = 1
    received: list[float] = []
    taken_back = 0
    over = gp.Event()

    def receiver() -> None:
        while not over.is_set():
            preemption_point()
            with gp.move_on_after(random.choice([None, 0.001, 0.003])):
                case = gp.select(timer, over, timeout=random.choice([None, 0, 0.001]))
                if case is not None and case[0] == 0:
                    received.append(case[1])
                    assert case[1] <= now()
            gp.yield_now()

    def setter() -> None:
        nonlocal times, taken_back
        for _ in range(10):
            preemption_point()
            if random.random() < 0.5:
                gp.sleep(random.choice([0.001, 0.002]))
            if random.random() < 0.5:
                taken_back += timer.stop()
            else:
                times += 1
                taken_back += timer.reset(random.choice([0, 0.001, 0.002]))

    receivers = [gp.spawn(receiver) for _ in range(3)]
    setters = [gp.spawn(setter) for _ in range(2)]
    for task in setters:
        task.result()
    gp.sleep(1)
    over.set()
    for task in receivers:
        task.result()
    taken_back += timer.stop()
    assert len(received) + taken_back == times
    assert entries() == 0
    assert not timer._waiting


@races(seeds=200)
def test_a_delayed_task_starts_or_is_cancelled_never_both() -> None:
    started: list[int] = []
    tasks = [spawn_later(random.choice([0, 0.001, 0.002]), started.append, n) for n in range(20)]
    while not all(task.done for task in tasks):
        preemption_point()
        random.choice(tasks).cancel()
        if random.random() < 0.3:
            gp.sleep(random.choice([0.001, 0.002]))
    assert len(set(started)) == len(started)
    for number, task in enumerate(tasks):
        assert task.cancelled != (number in started)
    assert entries() == 0
