"""eventlet: sleep."""

from __future__ import annotations

import eventlet

from bench.lateness import Lateness, sleep_often


def run(sleepers: int, seconds: float, shortest_ms: float, longest_ms: float) -> dict[str, float]:
    lateness = Lateness(seconds, shortest_ms, longest_ms)
    threads = [eventlet.spawn(sleep_often, eventlet.sleep, i, lateness) for i in range(sleepers)]
    for thread in threads:
        thread.wait()
    return lateness.summary()
