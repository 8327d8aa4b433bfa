"""asyncio: tasks in sleep(3600)."""

from __future__ import annotations

import asyncio

from bench.accounting import rss_bytes


async def measure(count: int) -> dict[str, float]:
    tasks = []

    async def park(number: int) -> None:
        tasks.extend([asyncio.create_task(asyncio.sleep(3600)) for _ in range(number)])
        await asyncio.sleep(0.1)  # now all of them have begun to wait

    await park(10)
    before = rss_bytes()
    await park(count)
    return {"grown": rss_bytes() - before}


def run(count: int) -> dict[str, float]:
    return asyncio.run(measure(count))
