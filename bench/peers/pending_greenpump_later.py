"""greenpump: spawn_later and cancel: a task that starts at its time."""

from __future__ import annotations

import greenpump as gp
from bench import pending


def run(count: int) -> dict[str, float]:
    result: dict[str, float] = gp.run(measure, count)
    return result


def measure(count: int) -> dict[str, float]:
    fired: list[None] = []

    def set_all(delays: list[float]) -> list[gp.Task[None]]:
        return [gp.spawn_later(delay, fired.append, None) for delay in delays]

    pending.try_half(set_all, cancel_all)
    gp.sleep(pending.LONG_ENOUGH)
    pending.check(len(fired))
    return pending.cost(set_all, cancel_all, count)


def cancel_all(tasks: list[gp.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
