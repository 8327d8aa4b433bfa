"""curio: sleep."""

from __future__ import annotations

import curio

from bench.lateness import Lateness, async_sleep_often


async def measure(
    sleepers: int, seconds: float, shortest_ms: float, longest_ms: float
) -> dict[str, float]:
    lateness = Lateness(seconds, shortest_ms, longest_ms)
    async with curio.TaskGroup() as group:
        for i in range(sleepers):
            await group.spawn(async_sleep_often, curio.sleep, i, lateness)
    return lateness.summary()


def run(sleepers: int, seconds: float, shortest_ms: float, longest_ms: float) -> dict[str, float]:
    result: dict[str, float] = curio.run(measure, sleepers, seconds, shortest_ms, longest_ms)
    return result
