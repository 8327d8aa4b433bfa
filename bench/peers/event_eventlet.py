"""eventlet: event.Event, which is sent once."""

from __future__ import annotations

import eventlet
from eventlet.event import Event

from bench.accounting import Stopwatch


def run(what: str, count: int) -> dict[str, float]:
    return WORK[what](count)


def wake_all(count: int) -> dict[str, float]:
    event = Event()
    threads = [eventlet.spawn(event.wait) for _ in range(count)]
    eventlet.sleep(0)
    watch = Stopwatch()
    watch.start()
    event.send()
    for thread in threads:
        thread.wait()
    return watch.stop(count)


WORK = {"wake_all": wake_all}
