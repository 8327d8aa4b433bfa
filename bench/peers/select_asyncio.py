"""asyncio: wait with FIRST_COMPLETED on four Queue.get."""

from __future__ import annotations

import asyncio

from bench.accounting import async_timed_twice


def run(what: str, count: int) -> dict[str, float]:
    return asyncio.run(async_timed_twice(WORK[what], count))


async def first_of(queues: list[asyncio.Queue[int]]) -> int:
    gets = [asyncio.ensure_future(queue.get()) for queue in queues]
    done, pending = await asyncio.wait(gets, return_when=asyncio.FIRST_COMPLETED)
    for get in pending:
        get.cancel()
    return done.pop().result()


async def parked(count: int) -> None:
    queues: list[asyncio.Queue[int]] = [asyncio.Queue(1) for _ in range(4)]
    taken = asyncio.Event()

    async def produce() -> None:
        for number in range(count):
            await queues[number % 4].put(number)
            await taken.wait()
            taken.clear()

    task = asyncio.create_task(produce())
    for number in range(count):
        if await first_of(queues) != number:
            raise RuntimeError("another message came")
        taken.set()
    await task


async def ready(count: int) -> None:
    queues: list[asyncio.Queue[int]] = [asyncio.Queue(1) for _ in range(4)]
    for number in range(count):
        await queues[number % 4].put(number)
        if await first_of(queues) != number:
            raise RuntimeError("another message came")


WORK = {"parked": parked, "ready": ready}
