"""asyncio: create_task, await, sleep(0) and timeout."""

from __future__ import annotations

import asyncio

from bench.accounting import async_timed_twice


def run(what: str, count: int) -> dict[str, float]:
    return asyncio.run(async_timed_twice(WORK[what], count))


async def nothing() -> None:
    pass


async def spawn(count: int) -> None:
    for task in [asyncio.create_task(nothing()) for _ in range(count)]:
        await task


async def spawn_parking(count: int) -> None:
    for task in [asyncio.create_task(asyncio.sleep(0)) for _ in range(count)]:
        await task


async def switch(count: int) -> None:
    async def half() -> None:
        for _ in range(count // 2):
            await asyncio.sleep(0)

    for task in (asyncio.create_task(half()), asyncio.create_task(half())):
        await task


async def timeout(count: int) -> None:
    for _ in range(count):
        async with asyncio.timeout(30):
            pass


WORK = {"spawn": spawn, "spawn_parking": spawn_parking, "switch": switch, "timeout": timeout}
