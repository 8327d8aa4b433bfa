from __future__ import annotations

import sys
import threading

import pytest
from greenlet import greenlet

import greenpump as gp
from greenpump.debug.look import Glimpse, Stack, running, steady, tasks_of
from greenpump.hub.local import hubs, this_hub


def names(stack: Stack) -> list[str]:
    return [frame.f_code.co_name for frame, _ in stack]


def test_a_read_that_was_disturbed_is_repeated() -> None:
    failures = iter([RuntimeError("deque mutated during iteration"), AttributeError("task")])

    def read() -> str:
        for failure in failures:
            raise failure
        return "done"

    assert steady(read) == "done"


def test_one_that_always_fails_says_so() -> None:
    def read() -> None:
        raise RuntimeError("another reason")

    with pytest.raises(RuntimeError, match="another reason"):
        steady(read)


def test_each_task_once_and_the_main_one_first() -> None:
    sleeper = gp.spawn(gp.sleep, 1000)
    gp.yield_now()
    fresh = gp.spawn(int)
    hub = this_hub()
    assert tasks_of(hub) == [hub.main, sleeper, fresh]
    sleeper.cancel()
    sleeper.join()
    fresh.join()
    assert tasks_of(hub) == [hub.main]


def test_tasks_that_come_and_go_meanwhile() -> None:
    """Every task it finds is a Task of that hub, whatever the hub's thread does at that moment."""
    started, stop = threading.Event(), threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for task in [gp.spawn(gp.yield_now) for _ in range(50)]:
                task.join()
            started.set()
        this_hub().close()

    this_hub()
    thread = threading.Thread(target=churn, name="churn")
    thread.start()
    try:
        assert started.wait(30)
        [hub] = [hub for hub in hubs if hub.thread is thread]
        for _ in range(500):
            found = tasks_of(hub)
            assert found[0] is hub.main
            assert all(type(task) is gp.Task for task in found)
            glimpse = Glimpse(hub, {})
            assert all(isinstance(glimpse.stack(task), list) for task in found)
    finally:
        stop.set()
        thread.join()


def test_the_runner_and_its_frame() -> None:
    hub = this_hub()
    task, frame = running(hub)
    assert task is hub.main
    assert frame.f_code.co_name == "running"


def test_a_thread_that_is_gone() -> None:
    class Gone:
        ident = -1

    class Orphan:
        thread = Gone
        current = quota = polls = 0

    with pytest.raises(LookupError):
        running(Orphan)  # type: ignore[arg-type]


def test_stacks_show_the_code_of_the_program_and_no_scheduler() -> None:
    def inner() -> None:
        gp.sleep(1000)

    def outer() -> None:
        inner()

    task = gp.spawn(outer)
    gp.yield_now()
    hub = this_hub()
    glimpse = Glimpse(hub, {threading.get_ident(): sys._getframe()})
    assert names(glimpse.stack(task)) == ["outer", "inner"]
    assert names(glimpse.stack(hub.main))[-1] == (
        "test_stacks_show_the_code_of_the_program_and_no_scheduler"
    )
    task.cancel()
    task.join()
    assert glimpse.stack(task) == []


def test_a_greenlet_inside_a_task_is_shown_below_the_code_that_made_it() -> None:
    def inside() -> None:
        gp.sleep(1000)

    def outside() -> None:
        greenlet(inside).switch()

    task = gp.spawn(outside)
    gp.yield_now()
    glimpse = Glimpse(this_hub(), {})
    assert names(glimpse.stack(task)) == ["outside", "inside"]
    task.cancel()
    task.join()
