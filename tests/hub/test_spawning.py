"""spawn, sleep, yield_now, current: order, arguments, context, bad input."""

from __future__ import annotations

import contextvars
import math
import threading
import time
from typing import Any

import pytest

import greenpump as gp
from greenpump.testing import virtual_clock, wait_all_parked

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="default")


def test_arguments() -> None:
    def echo(*args: int, **kwargs: int) -> tuple[tuple[int, ...], dict[str, int]]:
        return args, kwargs

    for n in range(6):
        assert gp.spawn(echo, *range(n)).result() == (tuple(range(n)), {})
        assert gp.spawn(echo, *range(n), x=n).result() == (tuple(range(n)), {"x": n})
    assert gp.spawn(echo, fn=1, self=2).result() == ((), {"fn": 1, "self": 2})


@pytest.mark.parametrize("what", [None, 3, "print"])
def test_no_callable(what: Any) -> None:
    with pytest.raises(TypeError, match="spawn needs a callable, not"):
        gp.spawn(what)


def test_tasks_start_in_the_order_of_spawning_at_the_next_park() -> None:
    order: list[int] = []
    tasks = [gp.spawn(order.append, n) for n in range(100)]
    assert order == []
    tasks[-1].join()
    assert order == list(range(100))


def test_yield_now_lets_all_run_that_are_ready_now() -> None:
    order = []

    def count(name: str) -> None:
        for n in range(3):
            order.append(f"{name}{n}")
            gp.yield_now()

    for name in "abc":
        gp.spawn(count, name)
    wait_all_parked()
    assert order == ["a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2"]


def test_a_task_has_a_copy_of_its_spawners_context() -> None:
    seen = []

    def child() -> None:
        seen.append(variable.get())
        variable.set("child's")
        gp.yield_now()
        seen.append(variable.get())

    variable.set("main's")
    first = gp.spawn(child)
    variable.set("later")
    second = gp.spawn(child)
    first.join()
    second.join()
    assert seen == ["main's", "later", "child's", "child's"]
    assert variable.get() == "later"


def test_contexts_do_not_leak_between_tasks_of_one_worker() -> None:
    seen = []

    def body() -> None:
        seen.append(variable.get())
        variable.set("mine")

    variable.set("main's")
    for _ in range(10):
        gp.spawn(body).join()
    for task in [gp.spawn(body) for _ in range(10)]:
        task.join()
    assert set(seen) == {"main's"}


@pytest.mark.parametrize("seconds", [-1, -1e-9, math.nan, -math.inf])
def test_no_time_to_sleep(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"NaN|negative"):
        gp.sleep(seconds)


@pytest.mark.parametrize("seconds", ["1", None, [], 1j])
def test_no_number_to_sleep(seconds: Any) -> None:
    with pytest.raises(TypeError):
        gp.sleep(seconds)


def test_sleep_for_ever_ends_by_cancel_alone() -> None:
    with virtual_clock() as clock:
        task = gp.spawn(gp.sleep, math.inf)
        gp.sleep(1e9)
        assert not task.done
        task.cancel()
        before = clock.now()
        task.join()
        assert task.cancelled
        assert clock.now() == before


@pytest.mark.parametrize("seconds", [0, 0.0, 1e-9, 1e-4, 3e-3])
def test_sleep_is_never_early(seconds: float) -> None:
    before = time.monotonic_ns()
    gp.sleep(seconds)
    assert time.monotonic_ns() - before >= int(seconds * 1e9)


def test_current() -> None:
    main = gp.current()
    assert main.name == "main of MainThread"
    tasks: list[gp.Task[Any]] = [gp.spawn(gp.current) for _ in range(3)]
    assert [task.result() for task in tasks] == tasks
    assert gp.current() is main


def test_each_thread_has_a_hub_of_its_own() -> None:
    seen: list[tuple[str, bool]] = []

    def body() -> None:
        seen.append((gp.current().name, gp.current().hub is not main.hub))
        gp.current().hub.close()

    main = gp.current()
    thread = threading.Thread(target=body, name="other")
    thread.start()
    thread.join()
    assert seen == [("main of other", True)]
