"""eventlet: green threads in sleep(3600)."""

from __future__ import annotations

import eventlet

from bench.accounting import rss_bytes


def park(number: int) -> None:
    for _ in range(number):
        eventlet.spawn(eventlet.sleep, 3600)
    eventlet.sleep(0.1)  # now all of them have begun to wait


def run(count: int) -> dict[str, float]:
    park(10)
    before = rss_bytes()
    park(count)
    return {"grown": rss_bytes() - before}
