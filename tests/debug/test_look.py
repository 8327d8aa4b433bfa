from __future__ import annotations

import sys
import threading

import pytest
from greenlet import greenlet

import greenpump as gp
from greenpump.debug import look
from greenpump.debug.look import running, stacks, steady, tasks_of, threads
from greenpump.hub.local import FREE_THREADED, hubs, this_hub
from greenpump.hub.stacks import Stack
from greenpump.hub.task import NOBODY


def names(stack: Stack) -> list[str]:
    return [name for _, _, name in stack]


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
        for _ in range(100):
            found = tasks_of(hub)
            assert found[0] is hub.main
            assert all(type(task) is gp.Task for task in found)
            assert stacks(hub, found, sys._getframe()).keys() <= {*found, NOBODY}
    finally:
        stop.set()
        thread.join()


def test_the_runner_and_where_it_is() -> None:
    hub = this_hub()
    task, stack = running(hub)
    assert task is hub.main
    assert "test_the_runner_and_where_it_is" in names(stack)


def test_a_thread_that_is_gone() -> None:
    hub = this_hub()
    thread, hub.thread = hub.thread, threading.Thread()
    try:
        assert running(hub) == (hub.main, [])
    finally:
        hub.thread = thread


def test_stacks_show_the_code_of_the_program_and_no_scheduler() -> None:
    def inner() -> None:
        gp.sleep(1000)

    def outer() -> None:
        inner()

    task = gp.spawn(outer)
    gp.yield_now()
    fresh = gp.spawn(int)
    hub = this_hub()
    found = stacks(hub, tasks_of(hub), sys._getframe())
    assert names(found[task]) == ["outer", "inner"]
    assert names(found[hub.main])[-1] == sys._getframe().f_code.co_name
    assert fresh not in found
    task.cancel()
    task.join()
    assert stacks(hub, [task], sys._getframe()) == {task: []}


def test_a_greenlet_inside_a_task_is_shown_below_the_code_that_made_it() -> None:
    def inside() -> None:
        gp.sleep(1000)

    def outside() -> None:
        greenlet(inside).switch()

    task = gp.spawn(outside)
    gp.yield_now()
    found = stacks(this_hub(), [task], sys._getframe())
    assert names(found[task]) == ["outside", "inside"]
    task.cancel()
    task.join()


class Elsewhere:
    """A hub of another thread with a parked task, asleep or held by its main task."""

    def __init__(self, held: bool) -> None:
        self.ready, self.go_on = threading.Event(), threading.Event()
        self.held = held
        self.thread = threading.Thread(target=self.life, name="elsewhere")

    def __enter__(self) -> Elsewhere:
        this_hub()
        self.thread.start()
        assert self.ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self.hub.post(self.sleeper_ends)
        self.thread.join()

    def life(self) -> None:
        self.hub = this_hub()
        self.sleeper = gp.spawn(self.sleeps)
        gp.yield_now()
        self.ready.set()
        if self.held:
            self.holds()
        self.sleeper.join()
        self.hub.close()

    def sleeps(self) -> None:
        try:
            gp.sleep(1000)
        except gp.Cancelled:
            return

    def holds(self) -> None:
        self.go_on.wait(30)

    def sleeper_ends(self) -> None:
        self.sleeper._cancel("the test is over")


def test_a_hub_asleep_in_another_thread() -> None:
    with Elsewhere(held=False) as other:
        # It may not have reached the kernel yet; then the main task is still on its way there.
        found = stacks(other.hub, tasks_of(other.hub), sys._getframe())
        assert names(found[other.sleeper]) == ["sleeps"]
        assert "life" in names(found[other.hub.main])


@pytest.mark.parametrize("gil", [True, False])
def test_a_hub_held_in_another_thread(gil: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not gil:
        monkeypatch.setattr(look, "FREE_THREADED", True)
        monkeypatch.setattr(look, "ANSWER_WITHIN", 0.001)
    with Elsewhere(held=True) as other:
        task, stack = running(other.hub)
        assert task is other.hub.main
        assert "holds" in names(stack)
        found = stacks(other.hub, tasks_of(other.hub), sys._getframe())
        assert "holds" in names(found[other.hub.main])
        # Without the GIL nothing but the hub's own thread may look at a parked task.
        assert (other.sleeper in found) is (gil and not FREE_THREADED)


def test_the_stack_of_a_thread_is_the_same_from_faulthandler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Elsewhere(held=True) as other:
        usual = threads()[other.thread.ident or 0]
        monkeypatch.setattr(look, "FREE_THREADED", True)
        other_way = threads()[other.thread.ident or 0]
        assert names(usual) == names(other_way)
        assert threading.get_ident() in threads()
