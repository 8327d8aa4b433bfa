"""greenpump: a task for each pair, in a loop of recv and send."""

from __future__ import annotations

import greenpump as gp
from bench.peers import straight_ring

SCALES_BY = "processes"


def run(pairs: int, active: int, writes: int, warmup: int) -> dict[str, float]:
    def main() -> dict[str, float]:
        return straight_ring.measure(gp.socketpair, gp.spawn, pairs, active, writes, warmup)

    result: dict[str, float] = gp.run(main)
    return result
