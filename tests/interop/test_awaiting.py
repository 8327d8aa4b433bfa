"""wait_for_task: asyncio awaits a task, as it would one of its own."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import greenpump as gp
from greenpump.interop.awaiting import wait_for_task
from greenpump.interop.coroutines import run_coroutine

from .conftest import OtherHub, settle_references

LONG = 30.0


class Boom(Exception):
    pass


def nap(value: object = None) -> object:
    gp.sleep(0.0001)
    return value


def fail(error: BaseException) -> None:
    gp.sleep(0.0001)
    raise error


class Stuck:
    """A task that waits for good, and what became of it."""

    def __init__(self, then: Callable[[], Any] | None = None) -> None:
        self.began = threading.Event()
        self.ended = threading.Event()
        self._then = then

    def __call__(self) -> Any:
        self.began.set()
        try:
            gp.sleep(math.inf)
        except gp.Cancelled as error:
            self.message = str(error)
            if self._then is None:
                raise
            return self._then()
        finally:
            with gp.shield():
                gp.sleep(0.001)
            self.ended.set()


async def until(event: threading.Event) -> None:
    await asyncio.to_thread(event.wait, LONG)


# -- results and errors ----------------------------------------------------------------------------


def test_asyncio_gets_the_result(other: OtherHub) -> None:
    async def main() -> Any:
        return await wait_for_task(gp.spawn_on(other.hub, nap, 5))

    assert asyncio.run(main()) == 5


def test_a_task_that_has_ended_is_there_at_once() -> None:
    task = gp.spawn(int, 5)
    task.join()

    async def main() -> Any:
        future = wait_for_task(task)
        assert future.done()
        return await future

    assert asyncio.run(main()) == 5


@pytest.mark.parametrize("kind", [KeyError, OSError, BaseException])
def test_asyncio_gets_the_error(
    kind: type[BaseException], other: OtherHub, unhandled: list[BaseException]
) -> None:
    error = kind("x")

    async def main() -> None:
        await wait_for_task(gp.spawn_on(other.hub, fail, error))

    with pytest.raises(kind) as caught:
        asyncio.run(main())
    assert caught.value is error
    assert unhandled == []


def test_stop_iteration_becomes_a_runtime_error(other: OtherHub) -> None:
    async def main() -> None:
        await wait_for_task(gp.spawn_on(other.hub, fail, StopIteration()))

    with pytest.raises(RuntimeError, match=r"fail#\d+ raised StopIteration"):
        asyncio.run(main())


def test_gather_wait_and_a_task_group_take_it(other: OtherHub) -> None:
    async def get(n: int) -> object:
        return await wait_for_task(gp.spawn_on(other.hub, nap, n))

    async def main() -> None:
        futures = [wait_for_task(gp.spawn_on(other.hub, nap, n)) for n in range(20)]
        assert await asyncio.gather(*futures) == list(range(20))
        done, pending = await asyncio.wait([wait_for_task(gp.spawn_on(other.hub, nap, 1))])
        assert [future.result() for future in done] == [1]
        assert not pending
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(get(n)) for n in range(20)]
        assert [task.result() for task in tasks] == list(range(20))

    asyncio.run(main())


def test_several_may_await_one_task(other: OtherHub) -> None:
    async def main() -> None:
        task = gp.spawn_on(other.hub, nap, 1)
        assert await asyncio.gather(*[wait_for_task(task) for _ in range(5)]) == [1] * 5
        assert await wait_for_task(task) == 1

    asyncio.run(main())


# -- cancels -------------------------------------------------------------------------------------


def test_a_cancel_of_the_awaiting_side_reaches_the_task_which_ends_first(other: OtherHub) -> None:
    stuck = Stuck()

    async def main() -> None:
        awaiting = asyncio.ensure_future(wait_for_task(gp.spawn_on(other.hub, stuck)))
        await until(stuck.began)
        awaiting.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await awaiting
        assert stuck.ended.is_set()
        assert stuck.message == "enough"

    asyncio.run(main())


def test_a_limit_of_asyncios(other: OtherHub) -> None:
    stuck = Stuck()

    async def main() -> None:
        async with asyncio.timeout(None) as limit:
            future = wait_for_task(gp.spawn_on(other.hub, stuck))
            await until(stuck.began)
            limit.reschedule(asyncio.get_running_loop().time())
            await future

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert stuck.ended.is_set()


def test_what_a_cancelled_task_returns_all_the_same_counts(other: OtherHub) -> None:
    stuck = Stuck(then=lambda: "saved")

    async def main() -> Any:
        async def get() -> Any:
            return await wait_for_task(gp.spawn_on(other.hub, stuck))

        awaiting = asyncio.ensure_future(get())
        await until(stuck.began)
        awaiting.cancel()
        return await awaiting

    assert asyncio.run(main()) == "saved"


def test_what_a_cancelled_task_raises_counts(other: OtherHub) -> None:
    def explode() -> None:
        raise Boom

    stuck = Stuck(then=explode)

    async def main() -> Any:
        awaiting = asyncio.ensure_future(wait_for_task(gp.spawn_on(other.hub, stuck)))
        await until(stuck.began)
        awaiting.cancel()
        with pytest.raises(Boom):
            await awaiting

    asyncio.run(main())


def test_a_task_that_is_cancelled_on_its_side(other: OtherHub) -> None:
    stuck = Stuck()

    async def main() -> None:
        task = gp.spawn_on(other.hub, stuck)
        future = wait_for_task(task)
        await until(stuck.began)
        task.cancel("no use")
        with pytest.raises(asyncio.CancelledError, match="no use"):
            await future
        assert future.cancelled()
        assert not future.cancel()

    asyncio.run(main())


def test_the_result_of_a_cancelled_task_is_an_error_like_others(other: OtherHub) -> None:
    stuck = Stuck()
    inner = gp.spawn_on(other.hub, stuck)
    inner.cancel()

    async def main() -> None:
        with pytest.raises(gp.TaskCancelled):
            await wait_for_task(gp.spawn_on(other.hub, inner.result))

    asyncio.run(main())


def test_an_event_loop_that_ends_cancels_and_waits(other: OtherHub) -> None:
    stuck = Stuck()

    async def hold() -> None:
        await wait_for_task(gp.spawn_on(other.hub, stuck))

    async def main() -> None:
        task = asyncio.create_task(hold())
        await until(stuck.began)
        assert not task.done()

    asyncio.run(main())
    assert stuck.ended.is_set()


def test_ends_and_cancels_race_without_loss(other: OtherHub) -> None:
    async def main() -> None:
        for n in range(200):
            task = gp.spawn_on(other.hub, gp.yield_now)
            future = wait_for_task(task)
            for _ in range(n % 5):
                await asyncio.sleep(0)
            future.cancel()
            try:
                await future
                assert task.error is None
            except asyncio.CancelledError:
                assert task.cancelled
            assert task.done

    asyncio.run(main())


# -- where it can't work ---------------------------------------------------------------------------


def test_a_task_of_this_very_thread_is_refused() -> None:
    task = gp.spawn(nap)

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"task nap#\d+ belongs to the hub of this very"):
            wait_for_task(task)

    asyncio.run(main())
    task.join()


def test_without_an_event_loop_it_is_refused() -> None:
    task = gp.spawn(nap)
    with pytest.raises(RuntimeError, match="no running event loop"):
        wait_for_task(task)
    task.join()


def test_a_hub_that_has_ended(other: OtherHub) -> None:
    began = threading.Event()

    def hold() -> None:
        began.set()
        gp.sleep(math.inf)

    async def main() -> None:
        future = wait_for_task(gp.spawn_on(other.hub, hold))
        await until(began)
        other.end()
        with pytest.raises(asyncio.CancelledError, match="has ended"):
            await future
        with pytest.raises(gp.HubError, match="has ended"):
            gp.spawn_on(other.hub, nap)

    asyncio.run(main())


def test_an_error_after_the_event_loop_has_ended_goes_to_the_hook(
    other: OtherHub, unhandled: list[BaseException]
) -> None:
    go = gp.Event()

    def late() -> None:
        go.wait()
        raise Boom

    tasks = []

    async def main() -> None:
        tasks.append(gp.spawn_on(other.hub, late))
        main.future = wait_for_task(tasks[0])  # type: ignore[attr-defined]

    asyncio.run(main())
    go.set()
    while not unhandled:
        gp.sleep(0.0001)
    assert [type(error) for error in unhandled] == [Boom]


# -- both ways -------------------------------------------------------------------------------------


def test_there_and_back() -> None:
    # A task runs a coroutine, which awaits a task of the same hub, which runs a coroutine.
    hub = gp.hubs()[0]

    async def inner(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    async def outer(n: int) -> int:
        return await wait_for_task(gp.spawn_on(hub, lambda: run_coroutine(inner(n)))) + 1

    assert run_coroutine(outer(1)) == 3
    stuck = Stuck()

    async def hold() -> None:
        await wait_for_task(gp.spawn_on(hub, stuck))

    task = gp.spawn(run_coroutine, hold())
    while not stuck.began.is_set():
        gp.sleep(0.0001)
    task.cancel()
    assert task.join(LONG)
    assert task.cancelled
    assert stuck.ended.is_set()


def test_nothing_is_left_of_it(other: OtherHub) -> None:
    class Thing:
        pass

    def make() -> Thing:
        return Thing()

    async def main() -> weakref.ref[Thing]:
        return weakref.ref(await wait_for_task(gp.spawn_on(other.hub, make)))

    gc.collect()
    gc.disable()
    try:
        ref = asyncio.run(main())
        gp.spawn_on(other.hub, int).join()
        settle_references()
        assert ref() is None
    finally:
        gc.enable()
