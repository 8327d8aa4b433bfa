"""greenpump without the GIL: as greenpump_detached, on free-threaded CPython."""

from __future__ import annotations

import greenpump as gp
from bench.peers import detached_ring
from bench.peers.ring_greenpump_nogil import measure

INTERPRETER = "freethreaded"
SCALES_BY = "hubs"


def run(pairs: int, active: int, writes: int, warmup: int, hubs: int) -> dict[str, float]:
    result: dict[str, float] = gp.run(
        measure, detached_ring.make, pairs, active, writes, warmup, hubs, hubs=hubs
    )
    return result
