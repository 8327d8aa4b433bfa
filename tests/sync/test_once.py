"""Once and once_value: by Go's rules, and a cancel doesn't count."""

from __future__ import annotations

import gc
import sys
import threading
import traceback
import weakref
from collections.abc import Callable

import pytest

import greenpump as gp
from greenpump.hub.interrupt import interruptible
from greenpump.hub.local import hub_or_none, this_hub
from greenpump.sync.once import Once, once_value
from greenpump.testing import virtual_clock, wait_all_parked

# -- Once ----------------------------------------------------------------------------------------


def test_only_the_first_call_calls() -> None:
    once, calls = Once(), []

    def fn(name: str, *, more: int) -> None:
        calls.append((name, more))

    assert repr(once).endswith(": not done>")
    assert not once.done()
    once.do(fn, "first", more=1)
    once.do(fn, "second", more=2)
    once.do(lambda: calls.append(("third", 3)))
    assert calls == [("first", 1)]
    assert once.done()
    assert repr(once).endswith(": done>")


def test_it_needs_no_hub() -> None:
    found: list[object] = []

    def thread() -> None:
        once = Once()
        once.do(found.append, 1)
        once.do(found.append, 2)
        found.append(hub_or_none() is None)

    runner = threading.Thread(target=thread)
    runner.start()
    runner.join()
    assert found == [1, True]


def test_callers_that_come_meanwhile_wait_until_it_has_ended() -> None:
    once, gate, log = Once(), gp.Event(), []

    def fn() -> None:
        log.append("begin")
        gate.wait()
        log.append("end")

    def caller() -> None:
        once.do(fn)
        log.append("went on")

    tasks = [gp.spawn(caller) for _ in range(4)]
    wait_all_parked()
    assert log == ["begin"]
    assert repr(once).endswith(": in the call>")
    gate.set()
    for task in tasks:
        task.result()
    assert log == ["begin", "end", *["went on"] * 4]


def test_an_exception_goes_to_its_caller_and_counts() -> None:
    once, gate = Once(), gp.Event()

    def fail() -> None:
        gate.wait()
        raise ZeroDivisionError

    first, second = gp.spawn(once.do, fail), gp.spawn(once.do, fail)
    wait_all_parked()
    gate.set()
    assert isinstance(first.exception(), ZeroDivisionError)
    assert second.exception() is None
    once.do(fail)
    assert once.done()


def test_after_a_cancel_the_next_in_line_begins_again() -> None:
    once, calls = Once(), []

    def slow(name: str) -> None:
        calls.append(name)
        if name == "first":
            gp.sleep(1000)

    first = gp.spawn(once.do, slow, "first")
    others = [gp.spawn(once.do, slow, name) for name in ("second", "third")]
    wait_all_parked()
    first.cancel()
    for task in others:
        task.result()
    assert calls == ["first", "second"]
    assert first.join()
    assert first.cancelled
    assert once.done()


def test_who_waits_is_cancelled_without_a_trace() -> None:
    once, gate = Once(), gp.Event()
    first = gp.spawn(once.do, gate.wait)
    wait_all_parked()
    with virtual_clock(), gp.move_on_after(1) as scope:
        once.do(pytest.fail, "it is the first's")
    assert scope.expired
    gate.set()
    first.result()
    assert not once._mutex.locked()
    assert not once._mutex._line


def test_the_function_may_not_ask_for_itself() -> None:
    once = Once()

    def again() -> None:
        once.do(again)

    with pytest.raises(RuntimeError, match=r"calls has called its do\(\) again"):
        once.do(again)
    assert once.done()


def test_other_onces_may_be_asked_within() -> None:
    outer, inner = Once(), Once()
    calls: list[str] = []

    def fn() -> None:
        inner.do(calls.append, "inner")
        calls.append("outer")

    outer.do(fn)
    assert calls == ["inner", "outer"]


# -- once_value ----------------------------------------------------------------------------------


def test_the_value_is_made_once_and_returned_each_time() -> None:
    calls = []

    @once_value
    def pool() -> list[int]:
        """The pool."""
        calls.append(1)
        gp.yield_now()
        return [len(calls)]

    tasks = [gp.spawn(pool) for _ in range(3)]
    values = [task.result() for task in tasks]
    assert values == [[1]] * 3
    assert pool() is values[0] is values[1]
    assert calls == [1]
    assert (pool.__name__, pool.__doc__) == ("pool", "The pool.")


def test_an_exception_is_raised_at_each_call_with_the_first_ones_traceback() -> None:
    calls = []

    @once_value
    def broken() -> int:
        calls.append(1)
        raise ZeroDivisionError("sorry")

    depths = []
    for _ in range(5):
        with pytest.raises(ZeroDivisionError, match="sorry") as raised:
            broken()
        frames = traceback.extract_tb(raised.value.__traceback__)
        assert frames[-1].name == "broken"
        depths.append(len(frames))
    assert calls == [1]
    assert depths == [depths[0]] * 5, "it does not grow"


def test_after_a_cancel_the_next_caller_makes_the_value() -> None:
    calls = []

    @once_value
    def slow() -> int:
        calls.append(1)
        if len(calls) == 1:
            gp.sleep(1000)
        return len(calls)

    first, second = gp.spawn(slow), gp.spawn(slow)
    wait_all_parked()
    first.cancel()
    assert second.result() == slow() == 2
    assert first.join()
    assert first.cancelled


def test_a_function_of_which_the_value_is_made_is_not_kept() -> None:
    def make() -> Callable[[], int]:
        return lambda: 5

    fn = make()
    gone = weakref.ref(fn)
    five = once_value(fn)
    del fn
    gc.collect()
    assert gone() is not None
    assert five() == five() == 5
    gc.collect()
    assert gone() is None


def test_what_is_not_callable_is_refused() -> None:
    with pytest.raises(TypeError, match="needs a callable, not 5"):
        once_value(5)  # type: ignore[arg-type]


def test_ctrl_c_is_raised_in_the_function() -> None:
    found: list[bool] = []
    Once().do(lambda: found.append(interruptible(sys._getframe())))
    assert once_value(lambda: interruptible(sys._getframe()))()
    assert found == [True]


# -- several hubs and threads --------------------------------------------------------------------


def test_of_two_hubs_and_threads_one_calls() -> None:
    def main() -> None:
        hubs = gp.hubs()
        for _ in range(50):
            calls: list[int] = []

            @once_value
            def value(calls: list[int] = calls) -> int:
                gp.yield_now()
                calls.append(1)
                return len(calls)

            def thread(value: Callable[[], int] = value) -> None:
                assert value() == 1
                this_hub().close()

            threads = [threading.Thread(target=thread) for _ in range(2)]
            tasks = [gp.spawn_on(hub, value) for hub in hubs for _ in range(3)]
            for each in threads:
                each.start()
            assert [task.result() for task in tasks] == [1] * 6
            for each in threads:
                gp.offload(each.join)
            assert calls == [1]

    gp.run(main, hubs=2)
