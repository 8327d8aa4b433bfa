"""Scopes: which block a cancel ends, what it absorbs, and what bad use gets."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Iterator

import pytest

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.hub.local import this_hub
from greenpump.testing import VirtualClock, virtual_clock, wait_all_parked


@pytest.fixture(autouse=True)
def clock(hub: Hub) -> Iterator[VirtualClock]:
    with virtual_clock() as clock:
        yield clock


def test_none_is_made_directly() -> None:
    with pytest.raises(TypeError, match="made by timeout, move_on_after or shield"):
        gp.Scope()


def test_a_timeout_raises_at_its_own_block(clock: VirtualClock) -> None:
    before = clock.now()
    with pytest.raises(TimeoutError, match=r"the time limit of 3 s has passed"), gp.timeout(3):
        gp.sleep(5)
    assert clock.now() - before == pytest.approx(3)


def test_move_on_after_goes_on_quietly(clock: VirtualClock) -> None:
    with gp.move_on_after(3) as scope:
        gp.sleep(5)
        pytest.fail("not reached")
    assert scope.expired
    assert scope.cancelled
    with gp.move_on_after(3) as scope:
        gp.sleep(1)
    assert not scope.expired
    assert not scope.cancelled


def test_a_block_that_ends_in_time_is_left_alone_afterwards() -> None:
    with gp.timeout(1):
        gp.sleep(0.5)
    gp.sleep(2)


@pytest.mark.parametrize("make", [gp.timeout, gp.move_on_after, gp.shield])
def test_no_limit(make: Callable[[float | None], gp.Scope]) -> None:
    for seconds in (None, math.inf, 1e300):
        with make(seconds) as scope:
            gp.sleep(1e9)
        assert not scope.expired


@pytest.mark.parametrize("make", [gp.timeout, gp.move_on_after, gp.shield])
@pytest.mark.parametrize("seconds", [-1, -1e-9, math.nan, -math.inf])
def test_no_such_time(make: Callable[[float | None], gp.Scope], seconds: float) -> None:
    scope = make(seconds)
    with pytest.raises(ValueError, match=r"NaN|negative"), scope:
        pytest.fail("not reached")
    assert gp.current().scope is None


@pytest.mark.parametrize("make", [gp.timeout, gp.move_on_after, gp.shield])
@pytest.mark.parametrize("seconds", ["3", object(), [], 1j])
def test_no_number(make: Callable[[object], gp.Scope], seconds: object) -> None:
    with pytest.raises(TypeError), make(seconds):
        pytest.fail("not reached")
    assert gp.current().scope is None


@pytest.mark.parametrize("park", [gp.yield_now, lambda: gp.sleep(0), lambda: gp.sleep(1)])
def test_a_limit_of_zero_ends_the_first_park(park: Callable[[], None]) -> None:
    reached = []
    with gp.move_on_after(0) as scope:
        reached.append(1)
        park()
        reached.append(2)
    assert scope.expired
    assert reached == [1]


def test_a_limit_without_a_park_never_acts(clock: VirtualClock) -> None:
    with gp.timeout(1):
        clock.advance(5)
    gp.yield_now()


def test_a_task_that_only_yields_is_ended(clock: VirtualClock) -> None:
    def yielder() -> int:
        n = 0
        with gp.move_on_after(5):
            while n < 1000:
                gp.yield_now()
                clock.advance(1)
                n += 1
        return n

    assert gp.spawn(yielder).result() == 5


# -- nesting -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outer", "inner", "ended"),
    [
        (1, 2, "outer"),
        (2, 1, "inner"),
        (1, 1, "outer"),  # both are over: the outermost is named
        (None, 1, "inner"),
        (1, None, "outer"),
    ],
)
def test_nested_limits_each_end_their_own_block(
    outer: float | None, inner: float | None, ended: str
) -> None:
    with gp.move_on_after(outer) as outside:
        with gp.move_on_after(inner) as inside:
            gp.sleep(3)
        assert ended == "inner"
    assert outside.expired == (ended == "outer")
    assert inside.expired == (ended == "inner")


def test_a_timeout_error_of_the_inner_block_is_the_inner_ones() -> None:
    with gp.timeout(10):
        with pytest.raises(TimeoutError, match=r"limit of 1 s"), gp.timeout(1):
            gp.sleep(3)
        gp.sleep(1)


def test_every_park_in_a_cancelled_scope_raises_until_it_is_left() -> None:
    raised = []
    with gp.move_on_after() as scope:
        scope.cancel()
        for park in (gp.yield_now, lambda: gp.sleep(1), lambda: gp.spawn(int).join()):
            try:
                park()
            except gp.Cancelled as error:
                raised.append(error.scope)
        with gp.move_on_after(100) as inner:
            try:
                gp.sleep(1)
            except gp.Cancelled as error:
                raised.append(error.scope)
        assert not inner.expired
    assert raised == [scope] * 4
    assert not scope.expired  # the block swallowed it all: nothing was cut short
    gp.sleep(1)
    wait_all_parked()


def test_only_the_named_scope_absorbs() -> None:
    with gp.move_on_after() as outer:
        with gp.move_on_after() as middle:
            with gp.move_on_after() as inner:
                outer.cancel()
                inner.cancel()
                gp.sleep(1)
            pytest.fail("the inner one took the outer one's cancel")
        pytest.fail("not reached")
    assert outer.expired
    assert not middle.expired
    assert not inner.expired


def test_an_outer_cancel_that_comes_while_unwinding_to_the_inner_one() -> None:
    steps = []
    with gp.move_on_after() as outer:
        with gp.move_on_after() as inner:
            inner.cancel()
            try:
                gp.sleep(1)
            finally:
                outer.cancel()
        steps.append("inner absorbed its own")
        gp.yield_now()
        pytest.fail("not reached")
    assert steps == ["inner absorbed its own"]
    assert inner.expired
    assert outer.expired


def test_other_errors_go_through() -> None:
    def fail() -> None:
        scope.cancel()
        raise KeyError

    def fail_in_the_clean_up() -> None:
        try:
            gp.sleep(2)
        finally:
            raise KeyError

    with pytest.raises(KeyError), gp.move_on_after() as scope:
        fail()
    assert not scope.expired
    with pytest.raises(KeyError), gp.timeout(1):
        fail_in_the_clean_up()


def test_a_cancel_of_somebody_elses_goes_through() -> None:
    stray = gp.Cancelled("stray")
    with pytest.raises(gp.Cancelled) as caught, gp.move_on_after(1):
        raise stray
    assert caught.value is stray


def test_a_cancel_before_entering_ends_the_first_park() -> None:
    scope = gp.move_on_after()
    scope.cancel("in advance")
    with scope:
        with pytest.raises(gp.Cancelled, match="in advance"):
            gp.yield_now()
        gp.yield_now()
    assert scope.expired


def test_the_first_reason_is_kept_and_a_second_cancel_does_nothing() -> None:
    with gp.move_on_after() as scope:
        scope.cancel("first")
        scope.cancel("second")
        with pytest.raises(gp.Cancelled, match="first"):
            gp.yield_now()
    scope.cancel("late")
    gp.yield_now()


# -- causes ------------------------------------------------------------------------------------


def test_the_cause_of_a_cancel_is_shown() -> None:
    cause = ConnectionResetError("the peer left")
    with gp.move_on_after() as scope:
        assert scope.cause is None
        scope.cancel(cause)
        scope.cancel(KeyError())
        with pytest.raises(
            gp.Cancelled, match=r"ConnectionResetError\('the peer left'\)"
        ) as caught:
            gp.yield_now()
        assert caught.value.__cause__ is cause
        gp.yield_now()
    assert scope.expired
    assert scope.cause is cause


def test_the_cause_of_a_timeout_error_is_shown() -> None:
    def be_cancelled(reason: str | BaseException) -> None:
        with gp.timeout(3) as scope:
            scope.cancel(reason)
            gp.yield_now()

    cause = KeyError("why")
    with pytest.raises(TimeoutError, match=r"KeyError\('why'\)") as caught:
        be_cancelled(cause)
    assert caught.value.__cause__ is cause
    with pytest.raises(TimeoutError) as caught, gp.timeout(3) as scope:
        gp.sleep(5)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert scope.cause is None
    with pytest.raises(TimeoutError, match="enough") as caught:
        be_cancelled("enough")
    assert caught.value.__cause__ is None


# -- shields -----------------------------------------------------------------------------------


def test_a_shield_keeps_the_outer_cancel_out_until_its_end() -> None:
    steps = []
    with gp.move_on_after() as outer:
        with gp.shield():
            outer.cancel()
            gp.sleep(1)
            steps.append("slept")
        gp.yield_now()
        steps.append("not reached")
    assert steps == ["slept"]
    assert outer.expired


def test_a_shield_keeps_the_outer_deadline_out(clock: VirtualClock) -> None:
    before = clock.now()
    with gp.move_on_after(1) as outer:
        with gp.shield():
            gp.sleep(5)
        assert clock.now() - before == pytest.approx(5)
        gp.yield_now()
        pytest.fail("not reached")
    assert outer.expired


def test_a_shield_has_a_limit_of_its_own(clock: VirtualClock) -> None:
    before = clock.now()
    with gp.shield(2) as scope:
        gp.sleep(5)
    assert scope.expired
    assert clock.now() - before == pytest.approx(2)


def test_a_scope_inside_a_shield_is_cancelled_as_any() -> None:
    with gp.move_on_after() as outer, gp.shield():
        outer.cancel()
        with gp.move_on_after(1) as inner:
            gp.sleep(5)
        assert inner.expired
        with gp.shield() as shield:
            shield.cancel()
            gp.yield_now()
        assert shield.expired
    assert not outer.expired


def test_a_parked_task_in_a_shield_is_not_disturbed(clock: VirtualClock) -> None:
    scopes: list[gp.Scope] = []

    def shielded() -> str:
        with gp.move_on_after() as outer:
            scopes.append(outer)
            with gp.shield():
                gp.sleep(3)
        return "slept"

    task = gp.spawn(shielded)
    wait_all_parked()
    before = clock.now()
    scopes[0].cancel()
    task.cancel()
    assert task.result() == "slept"
    assert clock.now() - before == pytest.approx(3)


# -- from elsewhere ------------------------------------------------------------------------------


def test_a_cancel_from_another_task_ends_the_present_wait(clock: VirtualClock) -> None:
    with gp.move_on_after() as scope:
        gp.spawn(scope.cancel)
        gp.sleep(math.inf)
    assert scope.expired


def test_a_cancel_from_another_thread(clock: VirtualClock) -> None:
    with clock.held(), gp.move_on_after() as scope:
        thread = threading.Thread(target=scope.cancel)
        thread.start()
        gp.sleep(3600)
        pytest.fail("not reached")
    thread.join()
    assert scope.expired


def test_of_many_cancels_from_another_thread_the_hub_is_told_once(hub: Hub) -> None:
    def cancel_all() -> None:
        for _ in range(1000):
            scope.cancel("enough")

    with gp.move_on_after() as scope:
        thread = threading.Thread(target=cancel_all)
        thread.start()
        thread.join()
        assert len(hub.inbox) == 1
        gp.sleep(5)
        pytest.fail("not reached")
    assert scope.cancelled


def test_a_message_that_has_arrived_is_not_taken_back() -> None:
    got = []
    scopes = []

    def receiver() -> None:
        with gp.move_on_after() as scope:
            scopes.append(scope)
            got.append(sender.result())
            gp.yield_now()
            got.append("not reached")

    def send() -> str:
        gp.sleep(1)
        # The receiver is readied when this task ends, and cancelled before it runs.
        gp.spawn(scopes[0].cancel)
        return "message"

    sender = gp.spawn(send)
    task = gp.spawn(receiver)
    task.join()
    assert got == ["message"]
    assert scopes[0].expired


# -- bad use -----------------------------------------------------------------------------------


def test_a_scope_is_entered_once() -> None:
    scope = gp.move_on_after(1)
    with scope, pytest.raises(RuntimeError, match="only once"), scope:
        pass
    with pytest.raises(RuntimeError, match="only once"), scope:
        pass
    assert gp.current().scope is None


def test_a_scope_left_out_of_order_is_an_error_and_leaves_the_task_in_order() -> None:
    outer, inner = gp.move_on_after(1), gp.move_on_after(2)
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(RuntimeError, match="reverse order"):
        outer.__exit__(None, None, None)
    assert gp.current().scope is None
    with pytest.raises(RuntimeError, match="twice"):
        inner.__exit__(None, None, None)
    gp.sleep(5)


def test_a_generator_suspended_inside_a_scope() -> None:
    def suspended() -> Generator[int, None, None]:
        with gp.move_on_after(1):
            yield 1

    generator = suspended()
    with pytest.raises(RuntimeError, match="generator"), gp.move_on_after(5):
        next(generator)
    with pytest.raises(RuntimeError, match="twice"):
        generator.close()
    assert gp.current().scope is None
    gp.sleep(10)


def test_an_error_in_a_scope_left_out_of_order_is_its_context() -> None:
    outer, inner = gp.move_on_after(1), gp.move_on_after(2)
    outer.__enter__()
    inner.__enter__()
    error = KeyError()

    def leave() -> None:
        try:
            raise error
        except KeyError:
            outer.__exit__(KeyError, error, None)

    with pytest.raises(RuntimeError) as caught:
        leave()
    assert caught.value.__context__ is error


def test_entering_and_leaving_touch_no_timer() -> None:
    heap = this_hub().timers._heap
    before = len(heap)
    for _ in range(100):
        with gp.timeout(30):
            pass
    assert len(heap) == before
