"""uvloop: asyncio's sleep (libuv's timers count whole milliseconds)."""

from __future__ import annotations

import uvloop

from bench.peers.timers_asyncio import measure


def run(sleepers: int, seconds: float, shortest_ms: float, longest_ms: float) -> dict[str, float]:
    result: dict[str, float] = uvloop.run(measure(sleepers, seconds, shortest_ms, longest_ms))
    return result
