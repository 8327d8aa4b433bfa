"""gevent: libev's timers, started and closed (what its Timeout and spawn_later are made of)."""

from __future__ import annotations

from typing import Any

import gevent

from bench import pending


def run(count: int) -> dict[str, float]:
    fired: list[None] = []
    loop = gevent.get_hub().loop

    def set_all(delays: list[float]) -> list[Any]:
        timers = []
        for delay in delays:
            timer = loop.timer(delay)
            timer.start(fired.append, None)
            timers.append(timer)
        return timers

    pending.try_half(set_all, cancel_all)
    gevent.sleep(pending.LONG_ENOUGH)
    pending.check(len(fired))
    return pending.cost(set_all, cancel_all, count)


def cancel_all(timers: list[Any]) -> None:
    for timer in timers:
        timer.stop()
        timer.close()
