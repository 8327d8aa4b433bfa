"""asyncio: call_later and cancel."""

from __future__ import annotations

import asyncio

from bench import pending


def run(count: int) -> dict[str, float]:
    return asyncio.run(measure(count))


async def measure(count: int) -> dict[str, float]:
    fired: list[None] = []
    loop = asyncio.get_running_loop()

    def set_all(delays: list[float]) -> list[asyncio.TimerHandle]:
        return [loop.call_later(delay, fired.append, None) for delay in delays]

    pending.try_half(set_all, cancel_all)
    await asyncio.sleep(pending.LONG_ENOUGH)
    pending.check(len(fired))
    return pending.cost(set_all, cancel_all, count)


def cancel_all(timers: list[asyncio.TimerHandle]) -> None:
    for timer in timers:
        timer.cancel()
