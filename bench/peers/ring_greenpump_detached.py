"""greenpump: detach_until_readable, a function called for each byte and no stack for a pair."""

from __future__ import annotations

import greenpump as gp
from bench.peers import detached_ring, straight_ring

SCALES_BY = "processes"


def run(pairs: int, active: int, writes: int, warmup: int) -> dict[str, float]:
    def main() -> dict[str, float]:
        return straight_ring.timed(detached_ring.make(pairs, active), writes, warmup)

    result: dict[str, float] = gp.run(main)
    return result
