"""rloop: the same call_later and cancel as asyncio's."""

from __future__ import annotations

from bench.peers import on_rloop
from bench.peers.pending_asyncio import measure


def run(count: int) -> dict[str, float]:
    return on_rloop.run(measure(count))
