"""trio: a nursery (leaving it is the join), checkpoint and fail_after."""

from __future__ import annotations

import trio

from bench.accounting import async_timed_twice


def run(what: str, count: int) -> dict[str, float]:
    result: dict[str, float] = trio.run(async_timed_twice, WORK[what], count)
    return result


async def nothing() -> None:
    pass


async def spawn(count: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(nothing)


async def spawn_parking(count: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(trio.lowlevel.checkpoint)


async def switch(count: int) -> None:
    async def half() -> None:
        for _ in range(count // 2):
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(half)
        nursery.start_soon(half)


async def timeout(count: int) -> None:
    for _ in range(count):
        with trio.fail_after(30):
            pass


WORK = {"spawn": spawn, "spawn_parking": spawn_parking, "switch": switch, "timeout": timeout}
