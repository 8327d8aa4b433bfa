"""asyncio: Queue, of one message and of a hundred."""

from __future__ import annotations

import asyncio

from bench.accounting import async_timed_twice


def run(what: str, count: int) -> dict[str, float]:
    return asyncio.run(async_timed_twice(WORK[what], count))


async def round_trip(count: int) -> None:
    there: asyncio.Queue[int] = asyncio.Queue(1)
    back: asyncio.Queue[int] = asyncio.Queue(1)

    async def echo() -> None:
        for _ in range(count):
            await back.put(await there.get())

    task = asyncio.create_task(echo())
    for number in range(count):
        await there.put(number)
        if await back.get() != number:
            raise RuntimeError("another message came back")
    await task


async def buffered(count: int) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(100)

    async def produce() -> None:
        for number in range(count):
            await queue.put(number)

    task = asyncio.create_task(produce())
    for number in range(count):
        if await queue.get() != number:
            raise RuntimeError("another message came")
    await task


WORK = {"round_trip": round_trip, "buffered": buffered}
