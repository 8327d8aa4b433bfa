"""Deadlines that can be read, and what is called after a cancel."""

from __future__ import annotations

import contextvars
import gc
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.hub.local import this_hub
from greenpump.hub.task import Task
from greenpump.sync.context import after_cancel, deadline, remaining
from greenpump.testing import VirtualClock, virtual_clock, wait_all_parked

LONG = 30.0


@pytest.fixture
def clock(hub: Hub) -> Iterator[VirtualClock]:
    with virtual_clock() as clock:
        yield clock


# -- deadlines -----------------------------------------------------------------------------------


def test_the_deadline_is_the_earliest_around(clock: VirtualClock) -> None:
    assert deadline() == remaining() == math.inf
    start = clock.now()
    with gp.timeout(10):
        assert deadline() == pytest.approx(start + 10)
        with gp.move_on_after(20):
            assert remaining() == pytest.approx(10)
        with gp.timeout(3):
            gp.sleep(1)
            assert deadline() == pytest.approx(start + 3)
            assert remaining() == pytest.approx(2)
        with gp.move_on_after(), gp.timeout(None):
            assert remaining() == pytest.approx(9)
        with gp.shield():
            assert deadline() == remaining() == math.inf
        with gp.shield(4), gp.timeout(5):
            assert remaining() == pytest.approx(4)
    assert deadline() == remaining() == math.inf


def test_what_has_passed_leaves_nothing(clock: VirtualClock) -> None:
    with gp.move_on_after(3):
        start = deadline()
        clock.advance(5)
        assert remaining() == 0.0
        assert deadline() == start  # a point of time stays
    with gp.move_on_after() as scope:
        scope.cancel()
        assert remaining() == 0.0
        assert deadline() == math.inf
        with gp.shield():
            assert remaining() == math.inf


def test_a_task_has_no_part_in_its_spawners_deadline() -> None:
    # As in trio and unlike a Go context: a Group in the scope hands its end on.
    with gp.timeout(LONG):
        assert gp.spawn(deadline).result() == math.inf


def test_the_deadline_is_on_the_scale_of_time_monotonic() -> None:
    before = time.monotonic()
    with gp.timeout(10):
        assert before + 10 <= deadline() <= time.monotonic() + 10
        assert 0 < remaining() <= 10


def test_a_socket_takes_it() -> None:
    left, right = gp.socketpair()
    with left, right:
        left.set_deadline(deadline())  # no limit
        right.send(b"x")
        assert left.recv(1) == b"x"
        with gp.timeout(0.001):
            left.set_deadline(deadline())
        with pytest.raises(TimeoutError, match="recv"):
            left.recv(1)


# -- values --------------------------------------------------------------------------------------

request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


def test_values_go_with_the_task_wherever_it_runs() -> None:
    def handle() -> list[str]:
        request.set("mine")
        found = [
            gp.spawn(request.get).result(),
            gp.spawn_on(gp.hubs()[1], request.get).result(),
            gp.spawn_on(gp.ANY, request.get).result(),
            gp.offload(request.get),
        ]
        with gp.Group() as group:
            task = group.spawn(gp.spawn, request.get)
        found.append(task.result().result())
        return found

    def main() -> None:
        first, second = gp.spawn(handle), gp.spawn_on(gp.hubs()[1], request.get)
        assert first.result() == ["mine"] * 5
        assert second.result() == request.get() == "none"

    gp.run(main, hubs=2)


def test_a_value_set_in_a_task_stays_there() -> None:
    def inner() -> None:
        assert request.get() == "outer"
        request.set("inner")
        gp.yield_now()
        assert request.get() == "inner"

    def outer() -> None:
        request.set("outer")
        task = gp.spawn(inner)
        gp.yield_now()
        request.set("changed later")
        task.result()
        assert request.get() == "changed later"

    gp.spawn(outer).result()
    assert request.get() == "none"


# -- after_cancel --------------------------------------------------------------------------------


def cancel_by_hand(scope: gp.Scope) -> None:
    scope.cancel()


def cancel_the_task(scope: gp.Scope) -> None:
    gp.current().cancel()


def cancel_from_a_thread(scope: gp.Scope) -> None:
    thread = threading.Thread(target=scope.cancel)
    thread.start()
    thread.join()


def cancel_the_task_from_a_thread(scope: gp.Scope) -> None:
    thread = threading.Thread(target=gp.current().cancel)
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    "cancel",
    [cancel_by_hand, cancel_the_task, cancel_from_a_thread, cancel_the_task_from_a_thread],
)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_it_is_called_when_the_scope_is_cancelled(
    cancel: Callable[[gp.Scope], None], depth: int
) -> None:
    called: list[str] = []

    def body() -> None:
        with gp.move_on_after() as outer, gp.timeout(LONG) as middle, gp.timeout(LONG) as inner:
            after_cancel([outer, middle, inner][depth], called.append, "called")
            cancel(outer)
            with gp.shield():
                gp.sleep(0.001)  # what a thread has posted arrives
                assert called == ["called"]
        gp.yield_now()

    task = gp.spawn(body)
    assert task.join(LONG)
    assert called == ["called"]


def test_it_is_called_at_the_deadline(clock: VirtualClock) -> None:
    called: list[float] = []

    def note() -> None:
        called.append(clock.now())

    start = clock.now()
    with gp.move_on_after(3) as scope:
        after_cancel(scope, note)
        gp.sleep(10)
    gp.sleep(0)
    # Also where the wait doesn't end with it, and of a limit around.
    with gp.move_on_after(2) as outer, gp.move_on_after(10) as scope:
        after_cancel(scope, note)
        after_cancel(outer, note)
        with gp.shield():
            gp.sleep(5)
    assert called == pytest.approx([start + 3, start + 5, start + 5])


def test_a_shield_keeps_it_from_the_cancel_around() -> None:
    called: list[str] = []
    with gp.move_on_after() as outer, gp.shield() as shield:
        after_cancel(shield, called.append, "shield")
        with gp.timeout(LONG) as inner:
            after_cancel(inner, called.append, "inner")
            outer.cancel()
            gp.yield_now()
            assert called == []
            inner.cancel()
            with gp.shield():
                gp.yield_now()
            assert called == ["inner"]
            with pytest.raises(gp.Cancelled):
                gp.yield_now()
    gp.yield_now()
    assert called == ["inner"]


def test_a_scope_left_in_time_never_calls_it(clock: VirtualClock) -> None:
    called: list[str] = []
    with gp.move_on_after() as outer:
        with gp.timeout(3) as inner:
            stop = after_cancel(inner, called.append, "inner")
            after_cancel(inner, called.append, "inner")
        assert gp.current().scope is outer
        assert stop() is False
        gp.sleep(5)
        outer.cancel()
        inner.cancel()
    gp.sleep(1)
    assert called == []


def test_stop_takes_it_back(clock: VirtualClock) -> None:
    called: list[int] = []
    with gp.timeout(3) as outer, gp.move_on_after(1) as scope:
        stops = [after_cancel(scope, called.append, n) for n in range(4)]
        stops.append(after_cancel(outer, called.append, 4))
        assert stops[1]() is True
        assert stops[1]() is False
        assert stops[3]() is True
        assert stops[4]() is True
        gp.sleep(2)
    gp.sleep(5)
    assert sorted(called) == [0, 2]
    assert [stop() for stop in stops] == [False] * 5
    assert gp.current().scope is None


def test_in_a_cancelled_scope_it_is_called_at_once() -> None:
    called: list[str] = []
    with gp.move_on_after() as scope:
        scope.cancel()
        stop = after_cancel(scope, called.append, "called")
        assert stop() is False
    gp.yield_now()
    assert called == ["called"]


def test_it_is_called_once() -> None:
    called: list[str] = []
    with gp.move_on_after() as outer, gp.move_on_after() as inner:
        after_cancel(inner, called.append, "called")
        inner.cancel()
        outer.cancel()
    gp.yield_now()
    gp.yield_now()
    assert called == ["called"]


def test_the_group_that_is_cancelled_or_fails() -> None:
    called: list[str] = []

    def fail() -> None:
        raise KeyError

    with gp.Group() as group:
        after_cancel(group, called.append, "cancelled")
        group.cancel()

    def hooked(group: gp.Group) -> None:
        after_cancel(group, called.append, "failed")
        group.spawn(fail)

    with pytest.raises(ExceptionGroup), gp.Group() as group:
        hooked(group)
    with gp.Group() as group:
        after_cancel(group, called.append, "never")
    gp.yield_now()
    assert called == ["cancelled", "failed"]


def test_it_runs_in_a_task_of_its_own_with_the_callers_context() -> None:
    found: list[Any] = []

    def note(*args: object, **kwargs: object) -> None:
        gp.sleep(0)  # it may wait, though the scope is cancelled
        found.append((request.get(), gp.current(), args, kwargs))

    def body() -> None:
        request.set("mine")
        with gp.move_on_after() as scope:
            after_cancel(scope, note, 1, 2, key=3)
            request.set("later")
            scope.cancel()
            gp.yield_now()
        gp.sleep(0.001)

    task = gp.spawn(body)
    task.result()
    value, own, args, kwargs = found[0]
    assert value == "mine"
    assert own is not task
    assert (args, kwargs) == ((1, 2), {"key": 3})
    assert "test_it_runs_in_a_task" in own.spawned_at()


def test_outside_the_block_it_is_refused() -> None:
    scope = gp.move_on_after()
    with pytest.raises(RuntimeError, match="enter that first"):
        after_cancel(scope, int)
    with scope, pytest.raises(TypeError, match="needs a callable, not 5"):
        after_cancel(scope, 5)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="was left"):
        after_cancel(scope, int)


def test_scopes_stay_in_order_with_hooks_everywhere() -> None:
    # The hooks stand between the scopes: each way of leaving must pass them by.
    for raised in (None, KeyError):
        try:
            with gp.move_on_after() as a:
                after_cancel(a, pytest.fail)
                with gp.move_on_after() as b:
                    after_cancel(b, pytest.fail)
                    after_cancel(a, pytest.fail)
                    with gp.move_on_after() as c:
                        after_cancel(b, pytest.fail)
                        after_cancel(c, pytest.fail)()
                        gp.yield_now()
                        if raised:
                            raise raised
                    assert gp.current().scope is not b
                assert gp.current().scope is not a
        except KeyError:
            pass
        assert gp.current().scope is None
    a, b = gp.move_on_after(), gp.move_on_after()
    a.__enter__()
    b.__enter__()
    after_cancel(b, pytest.fail)
    with pytest.raises(RuntimeError, match="reverse order"):
        a.__exit__(None, None, None)
    a.cancel()
    b.cancel()
    gp.yield_now()


def test_from_another_thread(hub: Hub) -> None:
    called: list[str] = []
    scopes: list[gp.Scope] = []
    stops: list[Callable[[], bool]] = []
    go = gp.Event()

    def body() -> None:
        with gp.move_on_after() as scope:
            scopes.append(scope)
            go.wait()

    def elsewhere() -> None:
        stops.append(after_cancel(scopes[0], called.append, "called"))
        stop = after_cancel(scopes[0], called.append, "stopped")
        assert stop() is True
        assert stop() is False

    def in_thread(fn: Callable[[], object]) -> None:
        thread = threading.Thread(target=fn)
        thread.start()
        thread.join()

    task = gp.spawn(body)
    wait_all_parked()
    in_thread(elsewhere)
    wait_all_parked()
    in_thread(scopes[0].cancel)
    task.result(LONG)
    wait_all_parked()
    assert called == ["called"]
    assert stops[0]() is False
    in_thread(elsewhere)  # the scope was left meanwhile, which another thread can't be told
    wait_all_parked()
    assert called == ["called"]
    assert stops[1]() is False


def test_a_stop_that_races_with_the_cancel_from_another_hub_decides_once() -> None:
    def main() -> None:
        for _ in range(200):
            called: list[int] = []
            ready = gp.Event()
            with gp.move_on_after() as scope:
                stop = after_cancel(scope, called.append, 1)
                stopper: Task[bool] = gp.spawn_on(gp.hubs()[1], _stop, ready, stop)
                ready.set()
                scope.cancel()
                with gp.shield():
                    stopped = stopper.result()
                    gp.yield_now()
            assert called == ([] if stopped else [1])

    def _stop(ready: gp.Event, stop: Callable[[], bool]) -> bool:
        ready.wait()
        return stop()

    gp.run(main, hubs=2)


def test_only_the_hub_of_the_scope_takes_it_out_of_the_chain() -> None:
    me = gp.current()
    with gp.move_on_after() as scope:
        stop = after_cancel(scope, int)
        assert me.scope is not scope
        assert stop()
        assert me.scope is scope
        thread = threading.Thread(target=after_cancel(scope, int))
        thread.start()
        thread.join()
        assert me.scope is not scope  # this hub has not looked into its inbox yet
        gp.sleep(0.001)
        assert me.scope is scope


def test_nothing_is_left_of_it(hub: Hub) -> None:
    class Thing:
        def __call__(self) -> None: ...

    def refs() -> list[weakref.ref[Any]]:
        stopped, left, called = Thing(), Thing(), Thing()
        with gp.timeout(LONG) as scope:
            after_cancel(scope, stopped)()
            after_cancel(scope, left)
            with gp.move_on_after() as inner:
                after_cancel(inner, called)
                inner.cancel()
        gp.yield_now()
        return [weakref.ref(stopped), weakref.ref(left), weakref.ref(called)]

    gc.collect()
    gc.disable()
    try:
        found = gp.spawn(refs).result()
        gp.yield_now()
        assert [ref() for ref in found] == [None] * 3
    finally:
        gc.enable()
    before = len(this_hub().timers)
    for _ in range(10_000):
        with gp.timeout(LONG) as scope:
            after_cancel(scope, int)
    assert len(this_hub().timers) == before
    assert len(this_hub().timers._heap) < 2000


def test_a_run_that_ends_waits_for_what_its_cancel_starts() -> None:
    called: list[str] = []

    def body() -> None:
        with gp.move_on_after() as scope:
            after_cancel(scope, called.append, "called")
            gp.sleep(math.inf)

    def main() -> None:
        gp.spawn(body)
        wait_all_parked()

    gp.run(main)
    assert called == ["called"]
