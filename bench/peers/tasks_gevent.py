"""gevent: spawn, join, sleep(0) and Timeout."""

from __future__ import annotations

import gevent

from bench.accounting import timed_twice


def run(what: str, count: int) -> dict[str, float]:
    return timed_twice(WORK[what], count)


def nothing() -> None:
    pass


def spawn(count: int) -> None:
    for greenlet in [gevent.spawn(nothing) for _ in range(count)]:
        greenlet.join()


def spawn_parking(count: int) -> None:
    for greenlet in [gevent.spawn(gevent.sleep, 0) for _ in range(count)]:
        greenlet.join()


def switch(count: int) -> None:
    def half() -> None:
        for _ in range(count // 2):
            gevent.sleep(0)

    for greenlet in (gevent.spawn(half), gevent.spawn(half)):
        greenlet.join()


def timeout(count: int) -> None:
    for _ in range(count):
        with gevent.Timeout(30):
            pass


WORK = {"spawn": spawn, "spawn_parking": spawn_parking, "switch": switch, "timeout": timeout}
