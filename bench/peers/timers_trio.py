"""trio: sleep."""

from __future__ import annotations

import trio

from bench.lateness import Lateness, async_sleep_often


async def measure(
    sleepers: int, seconds: float, shortest_ms: float, longest_ms: float
) -> dict[str, float]:
    lateness = Lateness(seconds, shortest_ms, longest_ms)
    async with trio.open_nursery() as nursery:
        for i in range(sleepers):
            nursery.start_soon(async_sleep_often, trio.sleep, i, lateness)
    return lateness.summary()


def run(sleepers: int, seconds: float, shortest_ms: float, longest_ms: float) -> dict[str, float]:
    result: dict[str, float] = trio.run(measure, sleepers, seconds, shortest_ms, longest_ms)
    return result
