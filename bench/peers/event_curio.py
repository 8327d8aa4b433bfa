"""curio: Event."""

from __future__ import annotations

import curio

from bench.accounting import Stopwatch


def run(what: str, count: int) -> dict[str, float]:
    result: dict[str, float] = curio.run(WORK[what], count)
    return result


async def wake_all(count: int) -> dict[str, float]:
    event = curio.Event()
    tasks = [await curio.spawn(event.wait) for _ in range(count)]
    await curio.sleep(0)
    watch = Stopwatch()
    watch.start()
    await event.set()
    for task in tasks:
        await task.join()
    return watch.stop(count)


WORK = {"wake_all": wake_all}
