"""gevent: sleep."""

from __future__ import annotations

import gevent

from bench.lateness import Lateness, sleep_often


def run(sleepers: int, seconds: float, shortest_ms: float, longest_ms: float) -> dict[str, float]:
    lateness = Lateness(seconds, shortest_ms, longest_ms)
    gevent.joinall(
        [gevent.spawn(sleep_often, gevent.sleep, i, lateness) for i in range(sleepers)],
        raise_error=True,
    )
    return lateness.summary()
