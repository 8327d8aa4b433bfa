"""gevent: queue.Channel and queue.Queue."""

from __future__ import annotations

import gevent
from gevent.queue import Channel, Queue

from bench.accounting import timed_twice


def run(what: str, count: int) -> dict[str, float]:
    return timed_twice(WORK[what], count)


def round_trip(count: int) -> None:
    there, back = Channel(), Channel()

    def echo() -> None:
        for _ in range(count):
            back.put(there.get())

    greenlet = gevent.spawn(echo)
    for number in range(count):
        there.put(number)
        if back.get() != number:
            raise RuntimeError("another message came back")
    greenlet.join()


def buffered(count: int) -> None:
    queue = Queue(100)

    def produce() -> None:
        for number in range(count):
            queue.put(number)

    greenlet = gevent.spawn(produce)
    for number in range(count):
        if queue.get() != number:
            raise RuntimeError("another message came")
    greenlet.join()


WORK = {"round_trip": round_trip, "buffered": buffered}
