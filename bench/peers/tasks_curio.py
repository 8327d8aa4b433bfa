"""curio: spawn, join, sleep(0) and timeout_after."""

from __future__ import annotations

import curio

from bench.accounting import async_timed_twice


def run(what: str, count: int) -> dict[str, float]:
    result: dict[str, float] = curio.run(async_timed_twice, WORK[what], count)
    return result


async def nothing() -> None:
    pass


async def spawn(count: int) -> None:
    for task in [await curio.spawn(nothing) for _ in range(count)]:
        await task.join()


async def spawn_parking(count: int) -> None:
    for task in [await curio.spawn(curio.sleep, 0) for _ in range(count)]:
        await task.join()


async def switch(count: int) -> None:
    async def half() -> None:
        for _ in range(count // 2):
            await curio.sleep(0)

    for task in (await curio.spawn(half), await curio.spawn(half)):
        await task.join()


async def timeout(count: int) -> None:
    for _ in range(count):
        async with curio.timeout_after(30):
            pass


WORK = {"spawn": spawn, "spawn_parking": spawn_parking, "switch": switch, "timeout": timeout}
