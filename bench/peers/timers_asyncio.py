"""asyncio: sleep."""

from __future__ import annotations

import asyncio

from bench.lateness import Lateness, async_sleep_often


async def measure(
    sleepers: int, seconds: float, shortest_ms: float, longest_ms: float
) -> dict[str, float]:
    lateness = Lateness(seconds, shortest_ms, longest_ms)
    await asyncio.gather(*(async_sleep_often(asyncio.sleep, i, lateness) for i in range(sleepers)))
    return lateness.summary()


def run(sleepers: int, seconds: float, shortest_ms: float, longest_ms: float) -> dict[str, float]:
    return asyncio.run(measure(sleepers, seconds, shortest_ms, longest_ms))
