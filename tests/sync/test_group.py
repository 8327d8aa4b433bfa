"""Group: no task outlives its block, no error is lost."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import select
import signal
import threading
import weakref
from collections.abc import Callable, Coroutine, Generator
from itertools import pairwise
from typing import Any, NoReturn

import pytest
from greenlet import GreenletExit

import greenpump as gp
from greenpump.hub import threads
from greenpump.hub.hub import Hub
from greenpump.hub.task import Task
from greenpump.testing import virtual_clock, wait_all_parked

LONG = 30.0


class Boom(Exception):
    pass


class Crash(Exception):
    pass


def fail(error: BaseException, seconds: float = 0) -> NoReturn:
    gp.sleep(seconds)
    raise error


def forever() -> None:
    gp.sleep(math.inf)


def fail_in_cleanup(error: BaseException) -> None:
    try:
        forever()
    finally:
        raise error


# -- the table: who fails, and what comes out ------------------------------------------------------


def child(group: gp.Group) -> None:
    group.spawn(fail, Boom())
    group.spawn(forever)


def body(group: gp.Group) -> None:
    group.spawn(forever)
    raise Boom


def both(group: gp.Group) -> None:
    group.spawn(fail_in_cleanup, Crash())
    gp.yield_now()
    raise Boom


def child_while_the_block_runs(group: gp.Group) -> None:
    group.spawn(fail, Boom())
    forever()


def two_children(group: gp.Group) -> None:
    group.spawn(fail, Boom())
    group.spawn(fail_in_cleanup, Crash())
    gp.yield_now()


def the_same_error_twice(group: gp.Group) -> None:
    # What a member raised, the block meets in its result.
    group.spawn(fail, Boom()).result()


def nested(group: gp.Group) -> None:
    with gp.Group() as inner:
        inner.spawn(fail, Boom())
        group.spawn(fail_in_cleanup, Crash())
        forever()


def a_cancelled_child(group: gp.Group) -> None:
    group.spawn(forever).cancel()
    group.spawn(gp.sleep, 0.001)


def a_result_of_a_cancelled_task(group: gp.Group) -> None:
    other = gp.spawn(forever)
    other.cancel()
    group.spawn(other.result)


def cancelled(group: gp.Group) -> None:
    group.spawn(forever)
    group.cancel()
    forever()


def cancelled_and_a_child_fails(group: gp.Group) -> None:
    group.spawn(fail_in_cleanup, Boom())
    gp.yield_now()
    group.cancel()


def a_child_of_a_child(group: gp.Group) -> None:
    group.spawn(lambda: group.spawn(lambda: group.spawn(fail, Boom())))


def a_base_exception(group: gp.Group) -> None:
    group.spawn(fail, BaseException("base"))


CASES: list[tuple[Callable[[gp.Group], None], list[Any]]] = [
    (child, [Boom]),
    (body, [Boom]),
    (both, [Boom, Crash]),
    (child_while_the_block_runs, [Boom]),
    (two_children, [Boom, Crash]),
    (the_same_error_twice, [Boom]),
    (nested, [[Boom], Crash]),
    (a_cancelled_child, []),
    (a_result_of_a_cancelled_task, [gp.TaskCancelled]),
    (cancelled, []),
    (cancelled_and_a_child_fails, [Boom]),
    (a_child_of_a_child, [Boom]),
    (a_base_exception, [BaseException]),
]


def kinds(error: BaseException | None) -> list[Any]:
    """What an exception group holds, by type, inner groups as lists."""
    if error is None:
        return []
    assert isinstance(error, BaseExceptionGroup)
    return [kinds(e) if isinstance(e, BaseExceptionGroup) else type(e) for e in error.exceptions]


@pytest.mark.parametrize("where", ["main", "task"])
@pytest.mark.parametrize(("case", "expected"), CASES, ids=lambda it: getattr(it, "__name__", ""))
def test_what_comes_out(case: Callable[[gp.Group], None], expected: list[Any], where: str) -> None:
    tasks: list[Task[Any]] = []

    def run() -> BaseException | None:
        group = gp.Group()
        try:
            with group:
                case(group)
        except BaseExceptionGroup as error:
            return error
        finally:
            tasks.extend(group._members)
        return None

    found = run() if where == "main" else gp.spawn(run).result(LONG)
    assert kinds(found) == expected
    if found is not None:
        assert isinstance(found, ExceptionGroup) == (BaseException not in expected)
    assert tasks == []
    gp.sleep(0)  # nothing of the group's cancel is left on the task


# -- as asyncio.TaskGroup --------------------------------------------------------------------------


async def aio_fail(error: BaseException) -> NoReturn:
    await asyncio.sleep(0)
    raise error


async def aio_fail_in_cleanup(error: BaseException) -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        raise error


async def aio_child(group: asyncio.TaskGroup) -> None:
    group.create_task(aio_fail(Boom()))
    group.create_task(asyncio.sleep(3600))


async def aio_body(group: asyncio.TaskGroup) -> None:
    group.create_task(asyncio.sleep(3600))
    raise Boom


async def aio_both(group: asyncio.TaskGroup) -> None:
    group.create_task(aio_fail_in_cleanup(Crash()))
    await asyncio.sleep(0)
    raise Boom


async def aio_block(group: asyncio.TaskGroup) -> None:
    group.create_task(aio_fail(Boom()))
    await asyncio.sleep(3600)


async def aio_two(group: asyncio.TaskGroup) -> None:
    group.create_task(aio_fail(Boom()))
    group.create_task(aio_fail_in_cleanup(Crash()))
    await asyncio.sleep(0)


async def aio_nested(group: asyncio.TaskGroup) -> None:
    async with asyncio.TaskGroup() as inner:
        inner.create_task(aio_fail(Boom()))
        group.create_task(aio_fail_in_cleanup(Crash()))
        await asyncio.sleep(3600)


async def aio_cancelled_child(group: asyncio.TaskGroup) -> None:
    group.create_task(asyncio.sleep(3600)).cancel()
    group.create_task(asyncio.sleep(0))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (child, aio_child),
        (body, aio_body),
        (both, aio_both),
        (child_while_the_block_runs, aio_block),
        (two_children, aio_two),
        (nested, aio_nested),
        (a_cancelled_child, aio_cancelled_child),
    ],
)
def test_it_ends_as_asyncios(
    ours: Callable[[gp.Group], None],
    theirs: Callable[[asyncio.TaskGroup], Coroutine[Any, Any, None]],
) -> None:
    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            await theirs(group)

    def outcome(fn: Callable[[], object]) -> BaseException | None:
        try:
            fn()
        except BaseExceptionGroup as error:
            return error
        return None

    def run_ours() -> None:
        with gp.Group() as group:
            ours(group)

    expected = outcome(lambda: asyncio.run(run()))
    found = outcome(run_ours)
    assert type(found) is type(expected)
    # The order is that of ending; asyncio reports the block's own error last.
    assert sorted(map(repr, kinds(found))) == sorted(map(repr, kinds(expected)))


# -- what goes on outwards -------------------------------------------------------------------------


def test_a_limit_around_cancels_the_block_and_the_tasks() -> None:
    tasks = []

    def block(group: gp.Group) -> None:
        tasks.append(group.spawn(forever))
        forever()

    with virtual_clock() as clock:
        start = clock.now()
        with pytest.raises(TimeoutError), gp.timeout(3), gp.Group() as group:
            block(group)
        with pytest.raises(TimeoutError), gp.timeout(3), gp.Group() as group:
            tasks.append(group.spawn(forever))  # the limit passes while it waits at the end
        assert [task.cancelled for task in tasks] == [True, True]
        assert clock.now() == pytest.approx(start + 6)


def test_tasks_clean_up_after_a_limit_around_and_may_take_their_time() -> None:
    cleaned = []

    def careful() -> None:
        try:
            forever()
        finally:
            with gp.shield():
                gp.sleep(100)
                cleaned.append(True)

    with virtual_clock(), gp.move_on_after(3) as scope, gp.Group() as group:
        group.spawn(careful)
    assert cleaned == [True]
    assert scope.expired


def test_an_error_takes_the_place_of_the_cancel_around_which_comes_at_the_next_park() -> None:
    reached = []
    with virtual_clock(), gp.move_on_after(3) as scope:
        try:
            with gp.Group() as group:
                group.spawn(fail_in_cleanup, Boom())
        except* Boom:
            reached.append("handler")
        gp.yield_now()
        reached.append("too far")
    assert reached == ["handler"]
    assert scope.expired


def test_the_task_of_the_block_is_cancelled() -> None:
    group = gp.Group()
    inner: list[Task[None]] = []

    def host() -> None:
        with group:
            inner.append(group.spawn(forever))

    task = gp.spawn(host)
    wait_all_parked()
    task.cancel()
    assert task.join(LONG)
    assert task.cancelled
    assert inner[0].cancelled


@pytest.mark.parametrize("when", ["in the block", "at its end", "of the task"])
def test_what_the_block_is_cancelled_for_reaches_its_tasks_and_theirs(when: str) -> None:
    shutdown = Boom("shutdown")
    seen = []

    def leaf() -> None:
        try:
            forever()
        except gp.Cancelled as error:
            seen.append(error.__cause__)
            raise

    def branch() -> None:
        with gp.Group() as group:
            group.spawn(leaf)
            group.spawn(leaf)
            if when == "in the block":
                forever()

    def results() -> None:
        gp.map(lambda _: leaf(), range(2), limit=2)

    def request() -> None:
        with gp.move_on_after() as scope:
            scopes.append(scope)
            branch()

    scopes: list[gp.Scope] = []
    with gp.Group() as outer:
        task = outer.spawn(request)
        if when == "of the task":
            results_task = outer.spawn(results)
        wait_all_parked()
        if when == "of the task":
            task.cancel(shutdown)
            results_task.cancel(shutdown)
        else:
            scopes[0].cancel(shutdown)
    assert seen == [shutdown] * (4 if when == "of the task" else 2)


def test_who_comes_late_to_a_cancelled_group_is_told_why() -> None:
    with gp.Group() as group:
        group.cancel(cause := Boom("shutdown"))
        task = group.spawn(forever)
    error = task.exception()
    assert error is not None
    assert error.__cause__ is cause


@pytest.mark.parametrize("at", ["body", "end"])
def test_ctrl_c_goes_on_as_itself_with_the_errors_as_its_context(at: str, hub: Hub) -> None:
    def block(group: gp.Group) -> None:
        group.spawn(fail_in_cleanup, Boom())
        gp.yield_now()
        if at == "body":
            raise KeyboardInterrupt
        hub.post(lambda: hub.to_main(KeyboardInterrupt()))

    with pytest.raises(KeyboardInterrupt) as caught, gp.Group() as group:
        block(group)
    assert kinds(caught.value.__context__) == [Boom]


@pytest.mark.parametrize("where", ["main", "task"])
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_member_ends_the_program(kind: type[BaseException], where: str, hub: Hub) -> None:
    reached = []
    error = kind(3)

    def run() -> None:
        with gp.Group() as group:
            sibling = group.spawn(forever)
            group.spawn(fail, error)
        reached.append("behind the block")
        sibling.join()

    if where == "main":
        with pytest.raises(kind) as caught:
            run()
    else:
        task = gp.spawn(run)
        with pytest.raises(kind) as caught:
            task.join()
        assert task.join(LONG)
        assert task.error is error
    assert caught.value is error
    assert reached == []
    gp.sleep(1e-6)  # main gets it once


def test_scopes_in_the_wrong_order_hide_no_error_of_the_tasks() -> None:
    def suspended() -> Generator[int]:
        with gp.timeout(LONG):
            yield 1

    def block() -> None:
        with gp.Group() as group:
            next(generator)
            group.spawn(fail, Boom())

    generator = suspended()
    with pytest.raises(RuntimeError, match="reverse order") as found:
        block()
    context = found.value.__context__
    assert isinstance(context, ExceptionGroup)
    assert [type(error) for error in context.exceptions] == [Boom]
    assert gp.current().scope is None
    with pytest.raises(RuntimeError, match="left twice"):
        generator.close()


def test_a_generator_that_is_closed_in_its_block_ends_the_tasks() -> None:
    tasks = []

    def numbers() -> Any:
        with gp.Group() as group:
            tasks.append(group.spawn(forever))
            yield 1

    generator = numbers()
    next(generator)
    generator.close()
    assert tasks[0].cancelled


def test_a_deadlock_at_the_end_of_the_block_is_raised_there() -> None:
    with pytest.raises(gp.Deadlock, match="wait for 1 task"), gp.Group() as group:
        group.spawn(forever)


# -- the block's life ------------------------------------------------------------------------------


def test_the_block_waits_for_all_and_for_what_they_spawn_while_it_ends() -> None:
    ran = []

    def grow(group: gp.Group, left: int) -> None:
        gp.sleep(0.1)
        ran.append(left)
        if left:
            group.spawn(grow, group, left - 1)

    with virtual_clock():
        with gp.Group() as group:
            for _ in range(10):
                group.spawn(grow, group, 20)
        assert len(ran) == 210
    assert len(group) == 0


def test_spawn_before_and_behind_the_block_is_refused() -> None:
    group = gp.Group()
    with pytest.raises(RuntimeError, match="inside its with-block"):
        group.spawn(int)
    with group:
        pass
    with pytest.raises(RuntimeError, match="inside its with-block"):
        group.spawn(int)
    with pytest.raises(RuntimeError, match="only once"), group:
        pass


def test_an_outsider_may_spawn_until_the_block_has_ended() -> None:
    outcomes = []

    def outsider(group: gp.Group) -> None:
        outcomes.append(group.spawn(gp.sleep, 2).join())
        with pytest.raises(RuntimeError, match="inside its with-block"):
            group.spawn(int)

    with virtual_clock() as clock:
        start = clock.now()
        with gp.Group() as group:
            group.spawn(gp.sleep, 1)
            task = gp.spawn(outsider, group)
            gp.yield_now()
        assert clock.now() == pytest.approx(start + 2)
        task.result()
    assert outcomes == [True]


@pytest.mark.parametrize("limit", [None, 1])
def test_what_is_spawned_in_a_cancelled_group_never_starts(limit: int | None) -> None:
    ran: list[int] = []
    with gp.Group(limit=limit) as group:
        group.cancel()
        task = group.spawn(ran.append, 1)
    assert ran == []
    assert task.cancelled


def test_a_group_cancelled_before_its_block_ends_at_its_first_park() -> None:
    group = gp.Group()
    group.cancel()
    reached = []
    with group:
        reached.append("start")
        gp.yield_now()
        reached.append("too far")
    assert reached == ["start"]


def test_spawn_tells_where_it_was_called_and_what_is_wrong() -> None:
    with gp.Group() as group:
        task = group.spawn(gp.sleep, 0)
        with pytest.raises(TypeError, match=r"a Group.s task needs a callable, not 5"):
            group.spawn(5)  # type: ignore[arg-type]
    assert f"{__file__}:" in task.spawned_at()
    assert "test_spawn_tells" in task.spawned_at()


@pytest.mark.parametrize("limit", [0, -1])
def test_a_bad_limit(limit: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        gp.Group(limit=limit)


def test_the_message_names_who_failed() -> None:
    def named(n: int, name: str) -> None:
        for _ in range(n):
            group.spawn(fail, Boom()).name = name

    def block() -> None:
        named(1, "fetch")
        named(1, "store")
        gp.sleep(0)
        raise Boom

    with pytest.raises(ExceptionGroup) as caught, gp.Group() as group:
        named(1, "fetch")
    assert caught.value.message == "an error in a group, from fetch"
    with pytest.raises(ExceptionGroup) as caught, gp.Group() as group:
        block()
    assert caught.value.message == "3 errors in a group, from its block, fetch and store"
    with pytest.raises(ExceptionGroup) as caught, gp.Group() as group:
        named(100, "fetch")
    assert caught.value.message.endswith(", fetch and 95 more")
    assert len(caught.value.exceptions) == 100


def test_the_repr_and_the_length() -> None:
    group = gp.Group(limit=2)
    assert repr(group).endswith(": not in its block of at most 2>")
    assert group  # an empty one is no less a group
    with group:
        group.spawn(gp.sleep, 0)
        group.spawn(gp.sleep, 0)
        waiter = gp.spawn(group.spawn, gp.sleep, 0)
        assert len(group) == 2
        while not group._queue:
            gp.yield_now()
        assert repr(group).endswith(": 2 tasks of at most 2, 1 wait for a place>")
        assert waiter.state() == "wait for a place in a group of 2"
    waiter.join()


# -- the limit -----------------------------------------------------------------------------------


def test_the_limit_is_kept_and_the_waiting_are_served_in_turn() -> None:
    running, most, order = [0], [0], []

    def work(name: str) -> None:
        order.append(name)
        running[0] += 1
        most[0] = max(most[0], running[0])
        gp.sleep(1)
        running[0] -= 1

    def spawner(group: gp.Group, name: str) -> None:
        for n in range(4):
            group.spawn(work, f"{name}{n}")

    with virtual_clock(), gp.Group(limit=3) as group:
        spawners = [gp.spawn(spawner, group, name) for name in "abcde"]
        for task in spawners:
            task.join()
    assert most == [3]
    # In rounds: nobody who comes later, nor the one that was served last, overtakes who waits.
    assert order[:3] == ["a0", "a1", "a2"]
    waits = {name: [n for n, who in enumerate(order) if who[0] == name] for name in "bcde"}
    for turns in waits.values():
        assert all(later - earlier <= 5 for earlier, later in pairwise(turns))


def test_a_place_that_its_taker_gives_up_goes_to_the_next() -> None:
    with virtual_clock(), gp.Group(limit=1) as group:
        group.spawn(gp.sleep, 1)
        gone = gp.spawn(group.spawn, gp.sleep, 1)
        served = gp.spawn(group.spawn, gp.sleep, 1)
        wait_all_parked()
        gone.cancel()
        assert served.result(2) is not None
    assert gone.cancelled


def test_a_waiter_that_is_cancelled_just_as_it_gets_its_place_keeps_it() -> None:
    group = gp.Group(limit=1)
    go = gp.Event()
    late: list[Task[None]] = []

    def spawner() -> None:
        late.append(group.spawn(gp.sleep, 0))
        gp.sleep(math.inf)

    with group:
        first = group.spawn(go.wait)
        task = gp.spawn(spawner)
        wait_all_parked()
        go.set()
        first.join()
        task.cancel()
    task.join()
    assert len(late) == 1
    assert late[0].done
    assert task.cancelled


def test_the_time_limit_of_a_spawner_that_waits_for_a_place() -> None:
    with virtual_clock(), gp.Group(limit=1) as group:
        group.spawn(gp.sleep, 10)
        with gp.move_on_after(1) as scope:
            group.spawn(int)
        assert scope.expired
        assert not group._queue
    assert group._taken == 0


# -- other hubs and threads ------------------------------------------------------------------------


def test_many_that_wait_for_a_place_leave_in_any_order_in_no_time() -> None:
    """The last first: each would be looked for behind all the others."""
    many = 20_000
    with gp.Group(limit=1) as group:
        held = group.spawn(forever)
        waiting = [gp.spawn(group.spawn, forever) for _ in range(many)]
        wait_all_parked()
        looked_at = 0

        def count(self: object, other: object) -> bool:
            nonlocal looked_at
            looked_at += 1
            return self is other

        place = type(next(iter(group._queue)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(place, "__eq__", count, raising=False)
            patch.setattr(place, "__hash__", object.__hash__, raising=False)
            for task in reversed(waiting):
                task.cancel()
            for task in waiting:
                task.join()
        assert looked_at < many
        held.cancel()


def test_members_on_other_hubs() -> None:
    found = []

    def spawner(group: gp.Group, n: int) -> None:
        for _ in range(n):
            task = group.spawn(gp.sleep, 0.0001)
            found.append(task.hub)

    def main() -> None:
        with gp.Group() as group:
            for hub in gp.hubs():
                gp.spawn_on(hub, spawner, group, 200).join()
        assert len(group) == group._taken == 0

    gp.run(main, hubs=2)
    assert len(found) == 400
    assert len(set(found)) == 2


@pytest.mark.parametrize("on_any", [False, True])
def test_spawn_on(on_any: bool) -> None:
    def main() -> None:
        found: list[Task[Hub]] = []
        with gp.Group(limit=3) as group:
            for _ in range(200):
                where = gp.ANY if on_any else gp.hubs()[1]
                found.append(group.spawn_on(where, lambda: gp.current().hub))
        ran = [task.result() for task in found]
        assert "test_spawn_on" in found[0].spawned_at()
        if not on_any:
            assert set(ran) == {gp.hubs()[1]}
        assert group._taken == 0

    gp.run(main, hubs=2)


def test_an_error_on_another_hub_is_the_groups_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # However soon the task ends: its group stands there before it starts.
    reported: list[BaseException] = []
    monkeypatch.setattr(gp, "excepthook", lambda task, error: reported.append(error))

    def main() -> None:
        for _ in range(100):
            with pytest.raises(ExceptionGroup), gp.Group() as group:
                group.spawn_on(gp.hubs()[1], fail, Boom())

    gp.run(main, hubs=2)
    assert reported == []


def test_spawn_on_a_hub_that_has_ended() -> None:
    hubs: list[Hub] = []
    thread = threading.Thread(target=lambda: hubs.append(gp.hubs()[0]))
    thread.start()
    thread.join()
    with gp.Group(limit=1) as group:
        with pytest.raises(gp.HubError, match="has ended"):
            group.spawn_on(hubs[0], forever)
        with pytest.raises(TypeError, match="needs a hub or ANY, not 5"):
            group.spawn_on(5, forever)  # type: ignore[arg-type]
        assert len(group) == group._taken == 0


def test_a_member_on_another_hub_fails_and_everybody_is_cancelled() -> None:
    def main() -> None:
        tasks = []

        def block(group: gp.Group) -> None:
            for hub in gp.hubs():
                tasks.append(gp.spawn_on(hub, group.spawn, forever).result())
            gp.spawn_on(gp.hubs()[1], group.spawn, fail, Boom()).join()
            forever()

        with pytest.raises(ExceptionGroup) as caught, gp.Group() as group:
            block(group)
        assert kinds(caught.value) == [Boom]
        assert [task.cancelled for task in tasks] == [True, True]

    gp.run(main, hubs=2)


def test_a_limit_over_two_hubs() -> None:
    running, most = [0], [0]
    lock = threading.Lock()

    def work() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        gp.yield_now()
        with lock:
            running[0] -= 1

    def spawner(group: gp.Group) -> None:
        for _ in range(300):
            group.spawn(work)

    def main() -> None:
        with gp.Group(limit=3) as group:
            spawners = [gp.spawn_on(hub, spawner, group) for hub in gp.hubs() * 2]
            for task in spawners:
                task.result()
        assert group._taken == 0

    gp.run(main, hubs=2)
    assert 1 <= most[0] <= 3


def test_a_plain_thread_cancels_it() -> None:
    with gp.Group() as group:
        group.spawn(forever)
        thread = threading.Thread(target=group.cancel)
        thread.start()
    thread.join()


# -- ends of all kinds ---------------------------------------------------------------------------


def test_a_hub_that_closes_doesnt_wait_for_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "END_GRACE", 0.01)
    ended: list[str] = []

    def stubborn() -> None:
        try:
            with gp.shield():
                forever()
        finally:
            ended.append("member")

    def host() -> None:
        try:
            with gp.Group() as group:
                group.spawn(stubborn)
        except GreenletExit:
            ended.append("host")
            raise

    def main() -> None:
        gp.spawn(host)
        wait_all_parked()

    with pytest.raises(gp.HubError, match="and has not ended"):
        gp.run(main)
    assert sorted(ended) == ["host", "member"]


def test_a_block_that_ends_at_the_recursion_limit_ends() -> None:
    # Waiting needs calls: with no room for one, the tasks are cancelled and the error goes on.
    tasks = []

    def descend() -> None:
        try:
            with gp.Group() as group:
                tasks.append(group.spawn(forever))
                descend()
        finally:
            pass

    with pytest.raises((RecursionError, ExceptionGroup)):
        descend()
    for task in tasks:
        task.cancel()
        assert task.join(LONG)


def test_nothing_is_left_of_a_group_and_its_errors() -> None:
    def own_error() -> None:
        raise Boom

    def run() -> list[weakref.ref[Any]]:
        group = gp.Group()
        refs: list[weakref.ref[Any]] = [weakref.ref(group)]
        try:
            with group:
                refs.append(weakref.ref(group.spawn(own_error)))
                forever()
        except ExceptionGroup as error:
            refs += [weakref.ref(error), weakref.ref(error.exceptions[0])]
        return refs

    gc.collect()
    gc.disable()
    try:
        refs = gp.spawn(run).result()
        gp.yield_now()
        assert [ref() for ref in refs] == [None] * 4
    finally:
        gc.enable()


def test_10_000_tasks_in_a_group() -> None:
    ran: list[int] = []
    with gp.Group() as group:
        for n in range(10_000):
            group.spawn(ran.append, n)
    assert ran == list(range(10_000))


def test_a_member_that_no_cancel_ends_is_a_deadlock() -> None:
    never, release = gp.Event(), gp.Event()

    def stubborn() -> None:
        with gp.shield():
            release.wait()

    def block() -> None:
        with gp.Group() as group:
            group.spawn(stubborn)
            never.wait()

    with pytest.raises(gp.Deadlock, match="stubborn"):
        block()
    release.set()
    gp.yield_now()


def test_a_cancel_that_comes_with_the_place_loses_none() -> None:
    done = gp.Event()
    with gp.Group(limit=1) as group:
        group.spawn(done.wait)
        spawner = gp.spawn(group.spawn, int)
        wait_all_parked()  # for a place
        done.set()
        gp.yield_now()  # the place is the spawner's now, who hasn't run yet
        spawner.cancel()  # too late for this wait, which is won
        assert spawner.result().result() == 0
        assert group.spawn(int).result() == 0


def test_a_fork_finds_a_lock_of_a_thread_that_the_child_has_not_renewed() -> None:
    held, go_on = threading.Event(), threading.Event()

    def hold(group: gp.Group) -> None:
        with group._lock:
            held.set()
            go_on.wait()

    def main() -> None:
        stop = gp.Event()
        with gp.Group() as group:
            group.spawn_on(gp.hubs()[1], stop.wait)
            thread = threading.Thread(target=hold, args=(group,))
            thread.start()
            held.wait()
            said, say = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.write(say, b"got through")
                os._exit(0)
            os.close(say)
            alive = bool(select.select([said], [], [], 20)[0])
            if not alive:
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            told.append(os.read(said, 100))
            os.close(said)
            go_on.set()
            thread.join()
            stop.set()

    told: list[bytes] = []
    gp.run(main, hubs=2)
    assert told == [b"got through"]
