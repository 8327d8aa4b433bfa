"""curio: tasks in sleep(3600)."""

from __future__ import annotations

import curio

from bench.accounting import rss_bytes


async def measure(count: int) -> dict[str, float]:
    async def park(number: int) -> None:
        for _ in range(number):
            await curio.spawn(curio.sleep, 3600, daemon=True)
        await curio.sleep(0.1)  # now all of them have begun to wait

    await park(10)
    before = rss_bytes()
    await park(count)
    return {"grown": rss_bytes() - before}


def run(count: int) -> dict[str, float]:
    result: dict[str, float] = curio.run(measure, count)
    return result
