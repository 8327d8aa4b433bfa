"""Group.start: what the child says, how it dies before that, and who is cancelled when."""

from __future__ import annotations

import gc
import math
import threading
import weakref
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.hub.task import Task
from greenpump.sync.starting import TASK_STATUS_IGNORED, TaskStatus
from greenpump.testing import virtual_clock, wait_all_parked

LONG = 30.0


class Boom(Exception):
    pass


def forever() -> None:
    gp.sleep(math.inf)


def ready_after(
    seconds: float, value: object, *, task_status: TaskStatus[Any] = TASK_STATUS_IGNORED
) -> None:
    gp.sleep(seconds)
    task_status.started(value)


def serve(log: list[str], *, task_status: TaskStatus[str] = TASK_STATUS_IGNORED) -> None:
    log.append("starting")
    gp.sleep(1)
    task_status.started("address")
    log.append("serving")
    try:
        forever()
    finally:
        log.append("ended")


# -- the good way ----------------------------------------------------------------------------------


def test_start_returns_what_the_child_says_when_it_says_so() -> None:
    log: list[str] = []
    with virtual_clock() as clock, gp.Group() as group:
        before = clock.now()
        assert group.start(serve, log) == "address"
        assert clock.now() == pytest.approx(before + 1)
        assert len(group) == 1
        gp.yield_now()
        assert log == ["starting", "serving"]
        group.cancel()
    assert log == ["starting", "serving", "ended"]


def test_a_child_that_is_ready_at_once_and_one_without_a_value() -> None:
    def child(*, task_status: TaskStatus[None]) -> None:
        task_status.started()

    with gp.Group() as group:
        assert group.start(child) is None


def test_the_block_waits_for_the_child_as_for_any() -> None:
    ended = []

    def child(*, task_status: TaskStatus[None]) -> None:
        task_status.started()
        gp.sleep(5)
        ended.append(True)

    with virtual_clock(), gp.Group() as group:
        group.start(child)
    assert ended == [True]


def test_an_error_after_it_was_ready_is_the_groups() -> None:
    def child(*, task_status: TaskStatus[int]) -> None:
        task_status.started(1)
        raise Boom

    found = []
    with pytest.raises(ExceptionGroup) as caught, gp.Group() as group:
        found.append(group.start(child))
    assert found == [1]
    assert [type(error) for error in caught.value.exceptions] == [Boom]


def test_the_function_can_be_called_without_a_group() -> None:
    task = gp.spawn(ready_after, 0, 1)
    task.result()
    TASK_STATUS_IGNORED.started()
    TASK_STATUS_IGNORED.started()  # any number of functions share it


def test_another_task_or_thread_may_say_it() -> None:
    def child(by_thread: bool, *, task_status: TaskStatus[int]) -> None:
        if by_thread:
            thread = threading.Thread(target=task_status.started, args=(1,))
            thread.start()
            thread.join()
        else:
            gp.spawn(task_status.started, 1)
        gp.yield_now()

    with gp.Group() as group:
        assert group.start(child, False) == 1
        assert group.start(child, True) == 1


def test_saying_it_twice_is_an_error_of_the_child() -> None:
    def child(*, task_status: TaskStatus[int]) -> None:
        task_status.started(1)
        task_status.started(2)

    with pytest.raises(ExceptionGroup) as caught, gp.Group() as group:
        assert group.start(child) == 1
    with pytest.raises(RuntimeError, match=r"child#\d+ said twice that it has started"):
        raise caught.value.exceptions[0]


# -- the child dies before -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Boom, BaseException, RecursionError])
def test_its_error_is_raised_at_start_and_the_group_goes_on(kind: type[BaseException]) -> None:
    def child(*, task_status: TaskStatus[None]) -> None:
        gp.sleep(1)
        raise kind("early")

    with virtual_clock(), gp.Group() as group:
        sibling = group.spawn(gp.sleep, 5)
        with pytest.raises(kind, match="early"):
            group.start(child)
        assert len(group) == 1
    assert sibling.error is None


def test_a_start_that_fails_in_the_block_fails_the_block() -> None:
    def child(*, task_status: TaskStatus[None]) -> None:
        raise Boom

    with pytest.raises(ExceptionGroup) as caught, gp.Group() as group:
        group.start(child)
    assert [type(error) for error in caught.value.exceptions] == [Boom]


def test_a_child_that_just_ends_is_an_error() -> None:
    with gp.Group() as group:
        with pytest.raises(RuntimeError, match=r"task dict#\d+ ended without a word"):
            group.start(dict)
        assert len(group) == group._taken == 0


def test_a_child_that_does_not_take_a_status_is_a_type_error() -> None:
    with gp.Group() as group, pytest.raises(TypeError, match="task_status"):
        group.start(forever)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_child_that_ends_the_program(kind: type[BaseException]) -> None:
    def child(*, task_status: TaskStatus[None]) -> None:
        raise kind

    with pytest.raises(kind), gp.Group() as group:
        group.start(child)
    gp.yield_now()


# -- cancels -------------------------------------------------------------------------------------


def test_a_limit_around_start_ends_the_child_first() -> None:
    log: list[str] = []

    def child(*, task_status: TaskStatus[None]) -> None:
        try:
            forever()
        finally:
            with gp.shield():
                gp.sleep(5)
            log.append("cleaned")

    with virtual_clock() as clock, gp.Group() as group:
        before = clock.now()
        with gp.move_on_after(1) as scope:
            group.start(child)
        assert scope.expired
        assert log == ["cleaned"]
        assert len(group) == 0
        assert clock.now() == pytest.approx(before + 6)
        group.start(ready_after, 1, None)  # the group goes on


def test_an_error_of_the_clean_up_takes_the_place_of_the_cancel() -> None:
    def child(*, task_status: TaskStatus[None]) -> None:
        try:
            forever()
        finally:
            raise Boom

    with virtual_clock(), gp.Group() as group:
        with gp.move_on_after(1) as scope:
            with pytest.raises(Boom) as caught:
                group.start(child)
            assert isinstance(caught.value.__context__, gp.Cancelled)
            gp.yield_now()
            pytest.fail("the cancel comes at the next park")
        assert scope.expired


def test_a_child_that_says_it_too_late_is_cancelled_all_the_same() -> None:
    log: list[str] = []

    def child(*, task_status: TaskStatus[str]) -> None:
        try:
            forever()
        except gp.Cancelled:
            task_status.started("too late")
            log.append("said")
        gp.yield_now()
        log.append("not reached")

    with virtual_clock(), gp.Group() as group, gp.move_on_after(1) as scope:
        group.start(child)
        log.append("not reached")
    assert scope.expired
    assert log == ["said"]


def test_what_was_said_before_the_cancel_came_counts() -> None:
    got: list[object] = []
    statuses: list[TaskStatus[int]] = []

    def child(*, task_status: TaskStatus[int]) -> None:
        statuses.append(task_status)
        forever()

    def starter(group: gp.Group) -> None:
        got.append(group.start(child))
        gp.yield_now()
        got.append("not reached")

    with gp.Group() as group:
        task = gp.spawn(starter, group)
        wait_all_parked()
        statuses[0].started(1)
        task.cancel()
        assert task.join(LONG)
        assert got == [1]
        assert len(group) == 1  # the child is the group's, and goes on
        group.cancel()


def test_a_cancel_that_comes_with_the_place_ends_the_child() -> None:
    done = gp.Event()

    def child(*, task_status: TaskStatus[None]) -> None:
        forever()

    with gp.Group(limit=1) as group:
        group.spawn(done.wait)
        starter = gp.spawn(group.start, child)
        wait_all_parked()  # for a place
        done.set()
        gp.yield_now()  # the place is the starter's now, who hasn't run yet
        starter.cancel()
        assert starter.join(LONG)
        assert starter.cancelled
        assert len(group) == 0


def test_in_a_cancelled_scope_nothing_is_started() -> None:
    ran: list[str] = []
    with gp.Group() as group, gp.move_on_after() as scope:
        scope.cancel()
        group.start(ran.append)
    assert scope.expired
    assert ran == []
    with gp.Group() as group:
        group.cancel()
        group.start(ran.append)
        pytest.fail("not reached")
    assert ran == []


def test_the_group_is_cancelled_while_the_child_starts() -> None:
    def by_block(group: gp.Group) -> None:
        group.spawn(group.cancel)
        group.start(ready_after, LONG, None)
        pytest.fail("not reached")

    def outsider(group: gp.Group) -> None:
        with pytest.raises(gp.TaskCancelled, match=r"task ready_after#\d+ was cancelled"):
            group.start(ready_after, math.inf, None)

    with virtual_clock():
        with gp.Group() as group:
            by_block(group)
        with gp.Group() as group:
            task = gp.spawn(outsider, group)
            wait_all_parked()
            group.cancel()
        task.result()


def test_a_sibling_that_fails_ends_the_start() -> None:
    def fail() -> None:
        raise Boom

    def block(group: gp.Group) -> None:
        group.spawn(fail)
        group.start(ready_after, math.inf, None)

    with pytest.raises(ExceptionGroup) as caught, gp.Group() as group:
        block(group)
    assert [type(error) for error in caught.value.exceptions] == [Boom]


def test_a_second_interruption_leaves_the_child_to_the_group(hub: Hub) -> None:
    log: list[str] = []

    def child(*, task_status: TaskStatus[None]) -> None:
        try:
            forever()
        finally:
            with gp.shield():
                gp.sleep(5)
            log.append("cleaned")
            raise Boom

    def interrupt() -> None:
        gp.sleep(1)
        hub.post(lambda: hub.to_main(KeyboardInterrupt()))
        gp.sleep(1)
        hub.post(lambda: hub.to_main(KeyboardInterrupt()))

    with virtual_clock():
        gp.spawn(interrupt)
        with pytest.raises(KeyboardInterrupt) as caught, gp.Group() as group:
            group.start(child)
    assert log == ["cleaned"]
    chain: list[BaseException | None] = [caught.value]
    while chain[-1] is not None:
        chain.append(chain[-1].__context__)
    assert isinstance(chain[-2], ExceptionGroup)
    assert [type(error) for error in chain[-2].exceptions] == [Boom]


# -- the rest ------------------------------------------------------------------------------------


def test_the_limit_counts_a_child_that_starts() -> None:
    with virtual_clock() as clock, gp.Group(limit=1) as group:
        before = clock.now()
        group.start(ready_after, 1, None)
        group.start(ready_after, 2, None)
        with pytest.raises(Boom):
            group.start(_boom)
        group.spawn(int).join()
        assert clock.now() == pytest.approx(before + 3)


def _boom(*, task_status: TaskStatus[None]) -> None:
    raise Boom


def test_what_it_waits_for_and_where_it_was_called() -> None:
    sites = []

    def child(*, task_status: TaskStatus[None]) -> None:
        sites.append(gp.current().spawned_at())
        forever()

    with gp.Group() as group:
        task = gp.spawn(group.start, child)
        wait_all_parked()
        assert task.state().startswith("start of task ")
        assert "child#" in task.state()
        group.cancel()
    with pytest.raises(gp.TaskCancelled):
        task.result()
    with pytest.raises(TypeError, match="needs a callable, not 5"), gp.move_on_after():
        gp.Group().start(5)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="inside its with-block"):
        group.start(child)
    assert len(sites) == 1


def test_nothing_is_left_of_it() -> None:
    def refs() -> list[weakref.ref[Any]]:
        found: list[weakref.ref[Any]] = []
        with gp.Group() as group:
            found.append(weakref.ref(group))
            group.start(ready_after, 0, None)
            try:
                group.start(_boom)
            except Boom as error:
                found.append(weakref.ref(error))
        return found

    gc.collect()
    gc.disable()
    try:
        found = gp.spawn(refs).result()
        gp.yield_now()
        assert [ref() for ref in found] == [None] * 2
    finally:
        gc.enable()


def test_readiness_and_cancels_race_and_each_start_ends_in_one_way() -> None:
    def child(*, task_status: TaskStatus[int]) -> None:
        gp.spawn_on(gp.hubs()[1], task_status.started, 1)
        forever()

    def starter(group: gp.Group, got: list[int]) -> None:
        got.append(group.start(child))

    def main() -> None:
        for _ in range(200):
            got: list[int] = []
            with gp.Group() as group:
                task: Task[None] = gp.spawn(starter, group, got)
                gp.yield_now()
                gp.yield_now()
                task.cancel()
                task.join()
                assert len(group) == len(got)
                group.cancel()

    gp.run(main, hubs=2)
