"""uvloop: the same add_reader callbacks as asyncio's."""

from __future__ import annotations

import uvloop

from bench.peers.ring_asyncio import measure


def run(pairs: int, active: int, writes: int, warmup: int) -> dict[str, float]:
    result: dict[str, float] = uvloop.run(measure(pairs, active, writes, warmup))
    return result
