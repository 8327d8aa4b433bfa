"""gevent: Event."""

from __future__ import annotations

import gevent
from gevent.event import Event

from bench.accounting import Stopwatch


def run(what: str, count: int) -> dict[str, float]:
    return WORK[what](count)


def wake_all(count: int) -> dict[str, float]:
    event = Event()
    greenlets = [gevent.spawn(event.wait) for _ in range(count)]
    gevent.sleep(0)
    watch = Stopwatch()
    watch.start()
    event.set()
    gevent.joinall(greenlets)
    return watch.stop(count)


WORK = {"wake_all": wake_all}
