"""rloop: the same add_reader callbacks as asyncio's."""

from __future__ import annotations

from bench.peers import on_rloop
from bench.peers.ring_asyncio import measure

SCALES_BY = "processes"


def run(pairs: int, active: int, writes: int, warmup: int) -> dict[str, float]:
    return on_rloop.run(measure(pairs, active, writes, warmup))
