"""greenpump without the GIL: the same in processes, which share nothing but the machine."""

from __future__ import annotations

import greenpump as gp
from bench.accounting import Stopwatch
from bench.gate import pass_gate
from bench.peers.pairs_greenpump_nogil import pairs

INTERPRETER = "freethreaded"
SCALES_BY = "processes"


def run(count: int) -> dict[str, float]:
    result: dict[str, float] = gp.run(measure, count)
    return result


def measure(count: int) -> dict[str, float]:
    pairs(count)
    pass_gate()
    watch = Stopwatch()
    watch.start()
    pairs(count)
    return watch.stop(count)
