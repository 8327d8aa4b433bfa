"""trio: tasks in sleep(3600)."""

from __future__ import annotations

import trio

from bench.accounting import rss_bytes


async def measure(count: int) -> dict[str, float]:
    async with trio.open_nursery() as nursery:

        async def park(number: int) -> None:
            for _ in range(number):
                nursery.start_soon(trio.sleep, 3600)
            await trio.sleep(0.1)  # now all of them have begun to wait

        await park(10)
        before = rss_bytes()
        await park(count)
        grown = rss_bytes() - before
        nursery.cancel_scope.cancel()
    return {"grown": grown}


def run(count: int) -> dict[str, float]:
    result: dict[str, float] = trio.run(measure, count)
    return result
