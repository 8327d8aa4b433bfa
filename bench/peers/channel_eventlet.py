"""eventlet: queue.LightQueue, of no message and of a hundred."""

from __future__ import annotations

import eventlet
from eventlet.queue import LightQueue

from bench.accounting import timed_twice


def run(what: str, count: int) -> dict[str, float]:
    return timed_twice(WORK[what], count)


def round_trip(count: int) -> None:
    there, back = LightQueue(0), LightQueue(0)

    def echo() -> None:
        for _ in range(count):
            back.put(there.get())

    thread = eventlet.spawn(echo)
    for number in range(count):
        there.put(number)
        if back.get() != number:
            raise RuntimeError("another message came back")
    thread.wait()


def buffered(count: int) -> None:
    queue = LightQueue(100)

    def produce() -> None:
        for number in range(count):
            queue.put(number)

    thread = eventlet.spawn(produce)
    for number in range(count):
        if queue.get() != number:
            raise RuntimeError("another message came")
    thread.wait()


WORK = {"round_trip": round_trip, "buffered": buffered}
