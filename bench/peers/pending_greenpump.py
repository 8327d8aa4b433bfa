"""greenpump: Timer and stop (no callback: whoever wants the time receives it)."""

from __future__ import annotations

import greenpump as gp
from bench import pending


def run(count: int) -> dict[str, float]:
    result: dict[str, float] = gp.run(measure, count)
    return result


def measure(count: int) -> dict[str, float]:
    tried = pending.try_half(set_all, cancel_all)
    gp.sleep(pending.LONG_ENOUGH)
    pending.check(sum(timer.try_recv() is not None for timer in tried))
    return pending.cost(set_all, cancel_all, count)


def set_all(delays: list[float]) -> list[gp.Timer]:
    return [gp.Timer(delay) for delay in delays]


def cancel_all(timers: list[gp.Timer]) -> None:
    for timer in timers:
        timer.stop()
