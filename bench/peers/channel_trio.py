"""trio: memory channels."""

from __future__ import annotations

import trio

from bench.accounting import async_timed_twice


def run(what: str, count: int) -> dict[str, float]:
    result: dict[str, float] = trio.run(async_timed_twice, WORK[what], count)
    return result


async def round_trip(count: int) -> None:
    to_echo, from_us = trio.open_memory_channel[int](0)
    to_us, from_echo = trio.open_memory_channel[int](0)

    async def echo() -> None:
        for _ in range(count):
            await to_us.send(await from_us.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo)
        for number in range(count):
            await to_echo.send(number)
            if await from_echo.receive() != number:
                raise RuntimeError("another message came back")


async def buffered(count: int) -> None:
    sender, receiver = trio.open_memory_channel[int](100)

    async def produce() -> None:
        for number in range(count):
            await sender.send(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        for number in range(count):
            if await receiver.receive() != number:
                raise RuntimeError("another message came")


WORK = {"round_trip": round_trip, "buffered": buffered}
