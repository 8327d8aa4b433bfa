"""imap, imap_unordered and map: order, bounds, errors, and what is left when one stops early."""

from __future__ import annotations

import contextvars
import gc
import math
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.hub.task import Task
from greenpump.sync import pool
from greenpump.sync.pool import Results, imap, imap_unordered
from greenpump.testing import VirtualClock, virtual_clock, wait_all_parked

LONG = 30.0
BOTH = pytest.mark.parametrize("start", [imap, imap_unordered])


class Boom(Exception):
    pass


@pytest.fixture
def clock(hub: Hub) -> Iterator[VirtualClock]:
    with virtual_clock() as clock:
        yield clock


@pytest.fixture
def unhandled(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    found: list[BaseException] = []
    monkeypatch.setattr(gp, "excepthook", lambda task, error: found.append(error))
    return found


def nap(seconds: float) -> float:
    gp.sleep(seconds)
    return seconds


class Watch:
    """A function that notes who runs, and fails or waits as its argument says."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self.began: list[float] = []
        self.ended: list[float] = []
        self.cancelled: list[float] = []

    def __call__(self, seconds: float) -> float:
        self.began.append(seconds)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            gp.sleep(abs(seconds))
            if seconds < 0:
                raise Boom(seconds)
            self.ended.append(seconds)
        except gp.Cancelled:
            self.cancelled.append(seconds)
            raise
        finally:
            self.running -= 1
        return seconds


# -- what comes out --------------------------------------------------------------------------------


@given(
    times=st.lists(st.integers(0, 5).map(float), max_size=20),
    limit=st.integers(1, 6),
)
def test_as_map(times: list[float], limit: int) -> None:
    with virtual_clock():
        watch = Watch()
        assert pool.map(watch, times, limit=limit) == times
        assert watch.most <= limit
        found = list(imap_unordered(watch, times, limit=limit))
        assert sorted(found) == sorted(times)
        assert found == watch.ended[len(times) :]  # in the order of ending
        assert watch.most <= limit
        assert list(imap(watch, times, limit=limit)) == times


def test_as_the_stdlibs(clock: VirtualClock) -> None:
    with ThreadPoolExecutor(2) as executor:
        expected = list(executor.map(pow, [2, 3, 4], [5, 6]))
    assert pool.map(pow, [2, 3, 4], [5, 6], limit=2) == expected == [32, 729]


@BOTH
@pytest.mark.parametrize("items", [[], (), iter(()), range(0)])
def test_of_nothing(start: Callable[..., Results[Any]], items: Iterable[Any]) -> None:
    assert list(start(pytest.fail, items, limit=3)) == []


def test_the_items_of_a_channel_and_of_a_generator(clock: VirtualClock) -> None:
    channel = gp.Channel[float]()

    def produce() -> None:
        for n in range(5):
            gp.sleep(1)
            channel.send(n)
        channel.close()

    def numbers() -> Iterator[float]:
        with gp.timeout(LONG):  # it lives in one task, and may hold a scope over its yields
            for n in range(5):
                gp.sleep(1)
                yield n

    gp.spawn(produce)
    assert list(imap(nap, channel, limit=3)) == [0, 1, 2, 3, 4]
    assert pool.map(nap, numbers(), limit=3) == [0, 1, 2, 3, 4]


def test_results_come_while_the_input_waits() -> None:
    channel = gp.Channel[int](1)
    results = imap(str, channel, limit=3)
    channel.send(1)
    assert next(results) == "1"
    channel.send(2)
    assert next(results) == "2"
    channel.close()
    assert next(results, None) is None
    assert next(results, None) is None


# -- bounds --------------------------------------------------------------------------------------


@BOTH
def test_as_many_run_at_once_as_may(start: Callable[..., Any], clock: VirtualClock) -> None:
    watch = Watch()
    before = clock.now()
    assert len(list(start(watch, [1.0] * 12, limit=4))) == 12
    assert watch.most == 4
    assert clock.now() == pytest.approx(before + 3)


@BOTH
@pytest.mark.parametrize("limit", [1, 3])
def test_items_are_taken_one_by_one_and_not_far_ahead(
    start: Callable[..., Any], limit: int
) -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        n = 0
        while True:
            taken.append(n)
            yield n
            n += 1

    with start(str, endless(), limit=limit) as results:
        assert taken == []  # nothing happens before the caller waits
        for n in range(20):
            wait_all_parked()
            assert len(taken) == n + 2 * limit
            assert next(results) == str(n)


def test_no_item_is_taken_that_has_no_place_to_run(clock: VirtualClock) -> None:
    # The items may be messages: one that lies in a hand when the work is cancelled would be lost.
    channel = gp.Channel[float](10)
    for _ in range(10):
        channel.send(1.0)
    watch = Watch()
    results = imap(watch, channel, limit=3)
    wait_all_parked()
    assert len(watch.began) == 3
    assert len(channel) == 7
    results.close()
    assert len(channel) == 7
    assert watch.cancelled == [1.0] * 3


def test_a_slow_item_does_not_stop_the_others_at_once(clock: VirtualClock) -> None:
    watch = Watch()
    results = imap(watch, [100.0] + [1.0] * 10, limit=2)
    wait_all_parked()
    gp.sleep(50)
    assert watch.ended == [1.0] * 3  # with the slow one, twice the limit
    assert next(results) == 100.0
    results.close()


# -- errors --------------------------------------------------------------------------------------


@BOTH
def test_the_first_error_cancels_the_rest(start: Callable[..., Any], clock: VirtualClock) -> None:
    watch = Watch()
    results = start(watch, [1.0, 9.0, -2.0, 8.0, 7.0], limit=4)
    assert next(results) == 1.0
    with pytest.raises(Boom, match="-2"):
        next(results)
    assert sorted(watch.cancelled) == [7.0, 8.0, 9.0]
    assert watch.running == 0
    assert next(results, None) is None


def take_all(results: Results[float], into: list[float]) -> None:
    for result in results:
        into.append(result)


def test_results_that_were_there_come_before_the_error(clock: VirtualClock) -> None:
    for start, expected in ((imap, [1.0, 2.0]), (imap_unordered, [1.0, 2.0, 4.0])):
        results = start(Watch(), [1.0, 2.0, 6.0, 4.0, -5.0], limit=5)
        gp.sleep(10)
        got: list[float] = []
        with pytest.raises(Boom):
            take_all(results, got)
        assert got == expected


def test_an_error_of_the_iterable_counts_as_one(clock: VirtualClock) -> None:
    def items() -> Iterator[float]:
        yield 5.0
        gp.sleep(1)
        raise Boom("no more")

    watch = Watch()
    with pytest.raises(Boom, match="no more"):
        pool.map(watch, items(), limit=3)
    assert watch.cancelled == [5.0]


def test_errors_on_the_way_out_go_to_the_hook(
    clock: VirtualClock, unhandled: list[BaseException]
) -> None:
    def call(n: int) -> None:
        try:
            gp.sleep(n)
        finally:
            raise Boom(n)

    with pytest.raises(Boom, match="1"):
        pool.map(call, [3, 2, 1], limit=3)
    assert sorted(str(error) for error in unhandled) == ["2", "3"]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_ends_the_program_goes_on_as_itself(kind: type[BaseException]) -> None:
    def call(n: int) -> None:
        raise kind

    with pytest.raises(kind):
        pool.map(call, [1, 2], limit=2)
    gp.yield_now()
    task = gp.spawn(pool.map, call, [1], limit=1)
    with pytest.raises(kind):
        task.join()
    assert task.join(LONG)
    assert isinstance(task.error, kind)


def test_stop_iteration_is_no_end() -> None:
    def call(n: int) -> None:
        raise StopIteration(n)

    with pytest.raises(RuntimeError, match="call raised StopIteration"):
        pool.map(call, [1], limit=1)


def test_a_call_that_is_cancelled_alone_is_a_failure() -> None:
    def call(n: int) -> int:
        if n == 2:
            gp.current().cancel("enough")
        gp.yield_now()
        return n

    with pytest.raises(gp.TaskCancelled, match=r"call\[2\] was cancelled"):
        pool.map(call, range(5), limit=5)


def test_a_driver_that_is_cancelled_is_no_end_of_the_results() -> None:
    results = imap(nap, [math.inf], limit=1)
    results._work.driver.cancel()
    with pytest.raises(gp.TaskCancelled, match="imap of nap was cancelled"):
        next(results)


def test_the_traceback_shows_the_call() -> None:
    def call(n: int) -> None:
        raise Boom

    with pytest.raises(Boom) as caught:
        pool.map(call, [1], limit=1)
    assert caught.traceback[-1].name == "call"


# -- stopping early --------------------------------------------------------------------------------


@BOTH
def test_close_cancels_what_runs_and_waits_for_it(
    start: Callable[..., Any], clock: VirtualClock
) -> None:
    watch = Watch()
    results = start(watch, [1.0, 1.0, 5.0, 6.0, 7.0], limit=3)
    assert next(results) == 1.0
    results.close()
    assert watch.running == 0
    assert sorted(watch.cancelled + watch.ended) == sorted(watch.began)
    assert list(results) == []
    results.close()
    assert results._work.state() == "ended"


def test_with_ends_them_with_the_block(clock: VirtualClock) -> None:
    watch = Watch()
    with imap(watch, [1.0, 5.0, 6.0], limit=3) as results:
        assert next(results) == 1.0
    assert watch.cancelled == [5.0, 6.0]

    def fail() -> None:
        with imap(watch, [1.0, 5.0, 6.0], limit=3) as results:
            next(results)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert watch.running == 0


def test_a_loop_that_is_left_cancels_them_soon(clock: VirtualClock) -> None:
    watch = Watch()
    for result in imap(watch, [1.0, 5.0, 6.0], limit=3):
        assert result == 1.0
        break
    wait_all_parked()
    assert watch.cancelled == [5.0, 6.0]

    def fail() -> None:
        for _ in imap(watch, [1.0, 7.0, 8.0], limit=3):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    wait_all_parked()
    assert watch.cancelled == [5.0, 6.0, 7.0, 8.0]
    imap(watch, [9.0], limit=3)
    wait_all_parked()
    assert watch.running == 0
    assert 9.0 not in watch.ended


def test_dropped_results_leave_no_error_unsaid(
    clock: VirtualClock, unhandled: list[BaseException]
) -> None:
    def call(n: int) -> None:
        try:
            gp.sleep(n)
        finally:
            raise Boom(n)

    results = imap(call, [1], limit=1)
    gp.sleep(5)
    del results  # it has failed before
    wait_all_parked()
    assert [str(error) for error in unhandled] == ["1"]
    results = imap(call, [2], limit=1)
    wait_all_parked()
    del results  # and it fails afterwards
    wait_all_parked()
    assert [str(error) for error in unhandled] == ["1", "2"]
    results = imap(call, [3], limit=1)
    wait_all_parked()
    with pytest.raises(Boom, match="3"):
        results.close()
    del results
    wait_all_parked()
    assert len(unhandled) == 2


def test_a_taker_that_is_cancelled_takes_nothing_and_may_come_again(clock: VirtualClock) -> None:
    results = imap(Watch(), [3.0, 1.0, 2.0], limit=3)
    with gp.move_on_after(1) as scope:
        next(results)
    assert scope.expired
    assert list(results) == [3.0, 1.0, 2.0]


def test_a_limit_around_map_ends_all(clock: VirtualClock) -> None:
    watch = Watch()
    with pytest.raises(TimeoutError), gp.timeout(3):
        pool.map(watch, [1.0, 5.0, 6.0], limit=3)
    assert watch.cancelled == [5.0, 6.0]
    assert watch.running == 0


def test_the_end_of_the_program_ends_them() -> None:
    watch = Watch()
    error: list[BaseException] = []

    def take() -> None:
        try:
            for _ in imap(watch, [math.inf] * 3, limit=3):
                pass
        except BaseException as caught:
            error.append(caught)
            raise

    def main() -> None:
        gp.spawn(take)
        wait_all_parked()

    gp.run(main)
    assert watch.running == 0
    assert isinstance(error[0], gp.Cancelled)


# -- hubs and threads ------------------------------------------------------------------------------


def where(n: int) -> Hub:
    gp.yield_now()
    return gp.current().hub


def test_on_other_hubs() -> None:
    def main() -> None:
        here, there = gp.hubs()
        assert set(pool.map(where, range(50), limit=5)) == {here}
        assert set(pool.map(where, range(50), limit=5, hub=there)) == {there}
        found = pool.map(where, range(500), limit=5, hub=gp.ANY)
        assert set(found) <= {here, there}
        assert pool.map(str, range(500), limit=7, hub=gp.ANY) == [str(n) for n in range(500)]
        with pytest.raises(Boom):
            pool.map(Watch(), [1000.0, -0.0001], limit=2, hub=gp.ANY)

    gp.run(main, hubs=2)


def test_takers_on_two_hubs_share_the_results() -> None:
    def take(results: Results[int], found: list[int]) -> None:
        for result in results:
            found.append(result)
            gp.yield_now()

    def main() -> None:
        results = imap(int, range(2000), limit=5, hub=gp.ANY)
        found: list[list[int]] = [[], [], []]
        takers: list[Task[None]] = [
            gp.spawn_on(gp.hubs()[n % 2], take, results, found[n]) for n in range(3)
        ]
        for taker in takers:
            taker.result()
        assert sorted(chain(*found)) == list(range(2000))
        assert all(each == sorted(each) for each in found)

    gp.run(main, hubs=2)


def test_from_a_plain_thread() -> None:
    found: list[list[str]] = []
    thread = threading.Thread(target=lambda: found.append(pool.map(str, range(5), limit=2)))
    thread.start()
    thread.join()
    assert found == [["0", "1", "2", "3", "4"]]


# -- the rest ------------------------------------------------------------------------------------


def test_the_calls_have_a_copy_of_the_callers_context() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")

    def call(n: int) -> str:
        before = name.get()
        name.set(f"{n}")
        gp.yield_now()
        return before + name.get()

    def body() -> list[str]:
        name.set("caller ")
        return pool.map(call, range(3), limit=2)

    assert gp.spawn(body).result() == ["caller 0", "caller 1", "caller 2"]


def test_with_nonsense() -> None:
    with pytest.raises(TypeError, match="needs a callable, not 5"):
        imap(5, [], limit=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="something to iterate over"):
        imap(str, limit=1)
    with pytest.raises(TypeError, match="not iterable"):
        imap(str, 5, limit=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        imap(str, [], limit=1.5)  # type: ignore[arg-type]
    for limit in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            imap(str, [], limit=limit)


def test_what_one_sees_of_it() -> None:
    go = gp.Event()

    def call(n: int) -> str:
        if n:
            go.wait()
        return gp.current().spawned_at()

    results = imap(call, range(3), limit=3)
    wait_all_parked()
    assert repr(results).endswith(": 2 running, 1 to be taken>")
    assert "test_what_one_sees_of_it.<locals>.call" in repr(results)
    names = sorted(task.name.split(".")[-1] for task in gp.hubs()[0].live_tasks())
    assert names == ["call", "call[1]", "call[2]"]
    assert "test_what_one_sees_of_it" in next(results)
    go.set()
    assert len(list(results)) == 2
    assert repr(results).endswith(": ended>")


def test_nothing_is_left_of_it() -> None:
    class Thing:
        pass

    def refs(fail: bool) -> list[weakref.ref[Any]]:
        found: list[weakref.ref[Any]] = []

        def call(thing: Thing) -> Thing:
            found.append(weakref.ref(thing))
            if fail:
                raise Boom
            return thing

        results = imap(call, (Thing() for _ in range(3)), limit=1)
        found.append(weakref.ref(results))
        found.append(weakref.ref(results._work._group))
        try:
            for _ in results:
                pass
        except Boom as error:
            found.append(weakref.ref(error))
        return found

    for fail in (False, True):
        gc.collect()
        gc.disable()
        try:
            found = gp.spawn(refs, fail).result()
            gp.sleep(0.001)
            assert [ref() for ref in found] == [None] * len(found)
        finally:
            gc.enable()
