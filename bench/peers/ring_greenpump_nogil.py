"""greenpump without the GIL: as greenpump, on free-threaded CPython."""

from __future__ import annotations

import os
from collections.abc import Callable

import greenpump as gp
from bench.accounting import Stopwatch
from bench.gate import pass_gate
from bench.peers import straight_ring
from bench.workloads.ring import share

INTERPRETER = "freethreaded"
SCALES_BY = "hubs"


def run(pairs: int, active: int, writes: int, warmup: int, hubs: int) -> dict[str, float]:
    def make(pairs: int, active: int) -> Callable[[int], None]:
        return straight_ring.make(gp.socketpair, gp.spawn, pairs, active)

    result: dict[str, float] = gp.run(measure, make, pairs, active, writes, warmup, hubs, hubs=hubs)
    return result


def measure(
    make: Callable[[int, int], Callable[[int], None]],
    pairs: int,
    active: int,
    writes: int,
    warmup: int,
    hubs: int,
) -> dict[str, float]:
    """A ring for each hub, with its share of the pairs; all start at once, the last end counts."""
    cores = sorted(os.sched_getaffinity(0))
    warm = gp.WaitGroup()
    warm.add(hubs)
    go = gp.Event()

    def own_ring(lane: int) -> None:
        try:
            if len(cores) >= hubs:
                os.sched_setaffinity(0, {cores[lane]})  # of this thread alone
            sizes = (share(whole, hubs, lane) for whole in (pairs, active))
            ring = make(*sizes)
            ring(share(warmup, hubs, lane))
        finally:
            warm.done()
        go.wait()
        ring(share(writes, hubs, lane))

    tasks = [gp.spawn_on(hub, own_ring, lane) for lane, hub in enumerate(gp.hubs())]
    warm.wait()
    pass_gate()
    watch = Stopwatch()
    watch.start()
    go.set()
    for task in tasks:
        task.result()
    return watch.stop(writes)
