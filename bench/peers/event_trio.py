"""trio: Event."""

from __future__ import annotations

import trio
import trio.testing

from bench.accounting import Stopwatch


def run(what: str, count: int) -> dict[str, float]:
    result: dict[str, float] = trio.run(WORK[what], count)
    return result


async def wake_all(count: int) -> dict[str, float]:
    event = trio.Event()
    watch = Stopwatch()
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(event.wait)
        await trio.testing.wait_all_tasks_blocked()
        watch.start()
        event.set()
    return watch.stop(count)


WORK = {"wake_all": wake_all}
