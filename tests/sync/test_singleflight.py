"""Singleflight: one call for all who ask, whoever of them leaves."""

from __future__ import annotations

import gc
import random
import threading
import traceback
import weakref
from contextvars import ContextVar
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub.local import this_hub
from greenpump.sync.singleflight import Singleflight
from greenpump.testing import preemption_point, races, virtual_clock, wait_all_parked


class Source:
    """What is asked: counts the calls, and gives what the test tells it to."""

    def __init__(self) -> None:
        self.calls = 0
        self.answer = gp.Channel[Any]()

    def ask(self, *args: object) -> Any:
        self.calls += 1
        answer = self.answer.recv()
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def source() -> Source:
    return Source()


def test_one_call_is_made_for_all_who_ask_meanwhile(source: Source) -> None:
    flights = Singleflight()
    tasks = [gp.spawn(flights.do, "key", source.ask) for _ in range(10)]
    wait_all_parked()
    assert (source.calls, len(flights)) == (1, 1)
    value = object()
    source.answer.send(value)
    assert all(task.result() is value for task in tasks)
    assert (source.calls, len(flights)) == (1, 0)


def test_who_asks_afterwards_gets_a_new_call(source: Source) -> None:
    flights = Singleflight()

    def ask_again() -> list[Any]:
        return [flights.do(1, source.ask), flights.do(1, source.ask)]

    first, second = gp.spawn(ask_again), gp.spawn(ask_again)
    source.answer.send("a")
    source.answer.send("b")
    assert first.result() == second.result() == ["a", "b"]
    assert source.calls == 2


def test_each_key_has_its_own_call(source: Source) -> None:
    flights = Singleflight()
    tasks = [gp.spawn(flights.do, key, source.ask) for key in ("a", "b", ("a", 1), None)]
    wait_all_parked()
    assert (source.calls, len(flights)) == (4, 4)
    assert "4 under way" in repr(flights)
    for number in range(4):
        source.answer.send(number)
    assert [task.result() for task in tasks] == [0, 1, 2, 3]
    assert flights, "true, though nothing is under way"


def test_arguments_are_handed_on() -> None:
    assert Singleflight().do("key", lambda *args, **kwargs: (args, kwargs), 1, fn=2, key=3) == (
        (1,),
        {"fn": 2, "key": 3},
    )


def test_it_says_whether_the_value_was_shared(source: Source) -> None:
    flights = Singleflight()
    assert flights.do_shared("key", int) == (0, False)
    tasks = [gp.spawn(flights.do_shared, "key", source.ask) for _ in range(2)]
    wait_all_parked()
    source.answer.send(7)
    assert [task.result() for task in tasks] == [(7, True)] * 2


def test_forget_makes_the_next_call_a_new_one(source: Source) -> None:
    flights = Singleflight()
    flights.forget("key")
    first = gp.spawn(flights.do, "key", source.ask)
    wait_all_parked()
    flights.forget("key")
    assert len(flights) == 0
    second, third = (gp.spawn(flights.do, "key", source.ask) for _ in range(2))
    wait_all_parked()
    assert (source.calls, len(flights)) == (2, 1)
    source.answer.send("old")
    assert first.result() == "old"
    assert len(flights) == 1, "the end of the forgotten one is not the end of the other"
    source.answer.send("new")
    assert second.result() == third.result() == "new"
    assert len(flights) == 0


# -- errors --------------------------------------------------------------------------------------


class Oops(Exception):
    pass


def test_every_caller_gets_the_error(source: Source) -> None:
    flights = Singleflight()
    tasks = [gp.spawn(flights.do, "key", source.ask) for _ in range(5)]
    wait_all_parked()
    error = Oops("no answer")
    source.answer.send(error)
    assert [task.exception() for task in tasks] == [error] * 5
    assert len(flights) == 0


def test_the_traceback_shows_the_call_and_does_not_grow_with_the_callers(source: Source) -> None:
    flights = Singleflight()
    depths = []

    def ask() -> None:
        try:
            flights.do("key", source.ask)
        except Oops as error:
            frames = traceback.extract_tb(error.__traceback__)
            assert [frame.name for frame in frames][-2:] == ["fly", "ask"]
            depths.append(len(frames))

    tasks = [gp.spawn(ask) for _ in range(50)]
    wait_all_parked()
    source.answer.send(Oops())
    for task in tasks:
        task.result()
    assert depths == [depths[0]] * 50


def fail(start: gp.Event) -> None:
    start.wait()
    raise Oops


def test_an_error_is_in_no_cycle_with_the_call() -> None:
    flights, start = Singleflight(), gp.Event()
    gc.collect()
    gc.disable()
    try:
        tasks = [gp.spawn(flights.do, "key", fail, start) for _ in range(3)]
        wait_all_parked()
        call = weakref.ref(next(iter(flights._flights.values())).task)
        start.set()
        assert all(isinstance(task.exception(), Oops) for task in tasks)
        del tasks
        wait_all_parked()
        assert call() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("key", [[], {}])
def test_a_key_that_cannot_be_hashed_is_refused(key: Any, source: Source) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        Singleflight().do(key, source.ask)
    assert source.calls == 0


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Singleflight\.do needs a callable, not 3"):
        Singleflight().do("key", 3)  # type: ignore[arg-type]


class Rude:
    def __repr__(self) -> str:
        raise Oops


def test_a_key_that_cannot_be_shown_starts_nothing(source: Source) -> None:
    flights = Singleflight()
    with pytest.raises(Oops):
        flights.do(Rude(), source.ask)
    assert (source.calls, len(flights)) == (0, 0)


def test_a_call_that_asks_for_itself_is_told(source: Source) -> None:
    flights = Singleflight()

    def again() -> None:
        flights.do("key", again)

    with pytest.raises(RuntimeError, match="again for 'key' would wait for itself"):
        flights.do("key", again)
    assert len(flights) == 0


def test_system_exit_ends_the_program_and_is_told_to_the_callers(source: Source) -> None:
    flights = Singleflight()
    task = gp.spawn(flights.do, "key", source.ask)
    wait_all_parked()

    def main() -> None:
        source.answer.send(SystemExit(3))
        gp.sleep(60)

    with pytest.raises(SystemExit):
        main()
    error = task.exception()
    assert isinstance(error, SystemExit)


# -- cancels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", [0, 1])
def test_who_is_cancelled_leaves_and_the_others_get_the_value(victim: int, source: Source) -> None:
    flights = Singleflight()
    tasks = [gp.spawn(flights.do, "key", source.ask) for _ in range(3)]
    wait_all_parked()
    tasks[victim].cancel()
    tasks[victim].join()
    late = gp.spawn(flights.do, "key", source.ask)
    wait_all_parked()
    source.answer.send(5)
    del tasks[victim]
    assert [task.result() for task in [*tasks, late]] == [5] * 3
    assert source.calls == 1


@virtual_clock()
def test_a_callers_time_limit_is_its_own() -> None:
    flights = Singleflight()

    def slow() -> str:
        gp.sleep(5)
        return "slow"

    def ask(seconds: float) -> str:
        with gp.timeout(seconds):
            value = flights.do("key", slow)
        return value

    hasty, patient = gp.spawn(ask, 1), gp.spawn(ask, 10)
    assert isinstance(hasty.exception(), TimeoutError)
    assert patient.result() == "slow"


def test_in_a_cancelled_scope_nothing_is_started(source: Source) -> None:
    flights = Singleflight()
    with gp.move_on_after() as scope:
        scope.cancel()
        flights.do("key", source.ask)
    assert scope.expired
    assert len(flights) == 0
    wait_all_parked()
    assert source.calls == 0


def test_when_all_have_left_the_call_goes_on_and_its_error_is_not_lost(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    flights = Singleflight()
    task = gp.spawn(flights.do, "key", source.ask)
    wait_all_parked()
    task.cancel()
    task.join()
    assert len(flights) == 1
    newcomer = gp.spawn(flights.do, "key", source.ask)
    wait_all_parked()
    source.answer.send(1)
    assert newcomer.result() == 1
    assert source.calls == 1

    reported: list[Any] = []
    monkeypatch.setattr(gp, "excepthook", lambda *args: reported.append(args))
    task = gp.spawn(flights.do, "key", source.ask)
    wait_all_parked()
    task.cancel()
    task.join()
    source.answer.send(Oops())
    wait_all_parked()
    assert len(reported) == 1


def test_a_call_that_cancels_itself_strands_nobody() -> None:
    flights = Singleflight()
    calls = 0

    def give_up() -> None:
        nonlocal calls
        calls += 1
        gp.yield_now()
        gp.current().cancel()
        gp.yield_now()

    tasks = [gp.spawn(flights.do, "key", give_up) for _ in range(3)]
    errors = [task.exception() for task in tasks]
    assert [type(error) for error in errors] == [gp.TaskCancelled] * 3
    assert calls <= 3
    assert len(flights) == 0


# -- hubs and threads ----------------------------------------------------------------------------


tenant: ContextVar[str] = ContextVar("tenant", default="nobody")


def test_the_call_has_the_context_of_the_first_caller() -> None:
    tenant.set("alice")
    assert Singleflight().do("key", tenant.get) == "alice"


def test_it_says_whose_call_it_is(source: Source) -> None:
    flights = Singleflight()

    def profile() -> None:
        flights.do("bob", source.ask)

    task = gp.spawn(profile)
    wait_all_parked()
    (flight,) = (each for each in this_hub().live_tasks() if each is not task)
    assert flight.name == "Source.ask for 'bob'"
    assert flight.spawned_at().startswith(__file__)
    assert flight.spawned_at().endswith("in test_it_says_whose_call_it_is.<locals>.profile")
    source.answer.send(None)
    task.join()


def test_callers_of_all_hubs_and_threads_share_one_call() -> None:
    flights = Singleflight()
    lock = threading.Lock()
    running = calls = 0

    def work(key: int) -> tuple[int, int]:
        nonlocal running, calls
        with lock:
            running += 1
            calls += 1
            assert running <= 3
            number = calls
        gp.yield_now()
        with lock:
            running -= 1
        return key, number

    values: list[list[tuple[int, int]]] = []

    def ask() -> None:
        mine = []
        for number in range(200):
            mine.append(flights.do(number % 3, work, number % 3))
            assert mine[-1][0] == number % 3
        values.append(mine)

    def main() -> None:
        here, there = gp.hubs()
        tasks = [gp.spawn_on(hub, ask) for hub in (here, there) for _ in range(4)]
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for task in tasks:
            task.result()
        for thread in threads:
            gp.offload(thread.join)

    gp.run(main, hubs=2)
    assert len(values) == 10
    assert calls < 2000
    assert len(flights) == 0


def test_a_thread_that_ends_with_the_call_strands_nobody(source: Source) -> None:
    flights = Singleflight()
    started = threading.Event()

    def starter() -> None:
        task = gp.spawn(flights.do, "key", source.ask)
        wait_all_parked()
        started.set()
        joined.wait()
        task.cancel()  # and the thread ends, with the call under way

    joined = threading.Event()
    thread = threading.Thread(target=starter)
    thread.start()
    started.wait()
    follower = gp.spawn(flights.do, "key", source.ask)
    wait_all_parked()
    assert source.calls == 1
    joined.set()
    thread.join()
    source.answer.send("from home")
    assert follower.result() == "from home"
    assert source.calls == 2
    assert len(flights) == 0


def test_a_hundred_thousand_calls_leave_nothing() -> None:
    flights = Singleflight()
    for number in range(100_000):
        flights.do(number % 7, int)
    assert len(flights) == 0


# -- under many seeds ----------------------------------------------------------------------------


@races(seeds=300)
def test_no_interleaving_strands_a_caller_or_makes_two_calls_at_once() -> None:
    flights = Singleflight()
    fails = random.random() < 0.5
    running: set[str] = set()
    calls = answers = 0

    def work(key: str) -> str:
        nonlocal calls
        calls += 1
        assert key not in running
        running.add(key)
        gp.sleep(random.choice([0.001, 0.002]))
        running.remove(key)
        if fails and random.random() < 0.3:
            raise Oops
        return key

    def caller() -> None:
        nonlocal answers
        for _ in range(5):
            preemption_point()
            key = random.choice("ab")
            # Where somebody leaves nothing fails: an error that nobody waits for is reported.
            with gp.move_on_after(None if fails else random.choice([None, 0.001, 0.003])):
                try:
                    assert flights.do(key, work, key) == key
                except Oops:
                    pass
                answers += 1

    tasks = [gp.spawn(caller) for _ in range(5)]
    gp.sleep(random.choice([0.001, 0.003]))
    if not fails:
        random.choice(tasks).cancel()
    for task in tasks:
        task.join()
    gp.sleep(1)
    assert (len(flights), len(running)) == (0, 0)
    assert calls <= 25
    assert answers > 0
