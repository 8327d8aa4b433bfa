"""eventlet: schedule_call_global and cancel."""

from __future__ import annotations

from typing import Any

import eventlet
import eventlet.hubs

from bench import pending


def run(count: int) -> dict[str, float]:
    fired: list[None] = []
    hub = eventlet.hubs.get_hub()

    def set_all(delays: list[float]) -> list[Any]:
        return [hub.schedule_call_global(delay, fired.append, None) for delay in delays]

    pending.try_half(set_all, cancel_all)
    eventlet.sleep(pending.LONG_ENOUGH)
    pending.check(len(fired))
    return pending.cost(set_all, cancel_all, count)


def cancel_all(timers: list[Any]) -> None:
    for timer in timers:
        timer.cancel()
