"""rloop: asyncio's sleep."""

from __future__ import annotations

from bench.peers import on_rloop
from bench.peers.timers_asyncio import measure


def run(sleepers: int, seconds: float, shortest_ms: float, longest_ms: float) -> dict[str, float]:
    return on_rloop.run(measure(sleepers, seconds, shortest_ms, longest_ms))
