"""greenpump: Event."""

from __future__ import annotations

import greenpump as gp
from bench.accounting import Stopwatch


def run(what: str, count: int) -> dict[str, float]:
    result: dict[str, float] = gp.run(WORK[what], count)
    return result


def wake_all(count: int) -> dict[str, float]:
    event = gp.Event()
    tasks = [gp.spawn(event.wait) for _ in range(count)]
    gp.yield_now()
    watch = Stopwatch()
    watch.start()
    event.set()
    tasks[-1].join()
    return watch.stop(count)


WORK = {"wake_all": wake_all}
