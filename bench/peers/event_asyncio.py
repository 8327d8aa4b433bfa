"""asyncio: Event."""

from __future__ import annotations

import asyncio

from bench.accounting import Stopwatch


def run(what: str, count: int) -> dict[str, float]:
    return asyncio.run(WORK[what](count))


async def wake_all(count: int) -> dict[str, float]:
    event = asyncio.Event()
    tasks = [asyncio.create_task(event.wait()) for _ in range(count)]
    await asyncio.sleep(0)
    watch = Stopwatch()
    watch.start()
    event.set()
    await tasks[-1]
    return watch.stop(count)


WORK = {"wake_all": wake_all}
