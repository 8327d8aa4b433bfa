"""curio: Queue, of one message and of a hundred."""

from __future__ import annotations

import curio

from bench.accounting import async_timed_twice


def run(what: str, count: int) -> dict[str, float]:
    result: dict[str, float] = curio.run(async_timed_twice, WORK[what], count)
    return result


async def round_trip(count: int) -> None:
    there, back = curio.Queue(1), curio.Queue(1)

    async def echo() -> None:
        for _ in range(count):
            await back.put(await there.get())

    task = await curio.spawn(echo)
    for number in range(count):
        await there.put(number)
        if await back.get() != number:
            raise RuntimeError("another message came back")
    await task.join()


async def buffered(count: int) -> None:
    queue = curio.Queue(100)

    async def produce() -> None:
        for number in range(count):
            await queue.put(number)

    task = await curio.spawn(produce)
    for number in range(count):
        if await queue.get() != number:
            raise RuntimeError("another message came")
    await task.join()


WORK = {"round_trip": round_trip, "buffered": buffered}
