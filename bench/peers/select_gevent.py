"""gevent: wait for the first of four greenlets that each get from a queue."""

from __future__ import annotations

import gevent
import gevent.event
from gevent.queue import Queue

from bench.accounting import timed_twice


def run(what: str, count: int) -> dict[str, float]:
    return timed_twice(WORK[what], count)


def first_of(queues: list[Queue[int]]) -> int:
    gets = [gevent.spawn(queue.get) for queue in queues]
    [done] = gevent.wait(gets, count=1)
    gevent.killall(gets)
    result: int = done.get()
    return result


def parked(count: int) -> None:
    queues: list[Queue[int]] = [Queue(1) for _ in range(4)]
    taken = gevent.event.Event()

    def produce() -> None:
        for number in range(count):
            queues[number % 4].put(number)
            taken.wait()
            taken.clear()

    greenlet = gevent.spawn(produce)
    for number in range(count):
        if first_of(queues) != number:
            raise RuntimeError("another message came")
        taken.set()
    greenlet.join()


def ready(count: int) -> None:
    queues: list[Queue[int]] = [Queue(1) for _ in range(4)]
    for number in range(count):
        queues[number % 4].put(number)
        if first_of(queues) != number:
            raise RuntimeError("another message came")


WORK = {"parked": parked, "ready": ready}
