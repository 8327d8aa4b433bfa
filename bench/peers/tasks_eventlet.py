"""eventlet: spawn, wait, sleep(0) and Timeout."""

from __future__ import annotations

import eventlet

from bench.accounting import timed_twice


def run(what: str, count: int) -> dict[str, float]:
    return timed_twice(WORK[what], count)


def nothing() -> None:
    pass


def spawn(count: int) -> None:
    for thread in [eventlet.spawn(nothing) for _ in range(count)]:
        thread.wait()


def spawn_parking(count: int) -> None:
    for thread in [eventlet.spawn(eventlet.sleep, 0) for _ in range(count)]:
        thread.wait()


def switch(count: int) -> None:
    def half() -> None:
        for _ in range(count // 2):
            eventlet.sleep(0)

    for thread in (eventlet.spawn(half), eventlet.spawn(half)):
        thread.wait()


def timeout(count: int) -> None:
    for _ in range(count):
        with eventlet.Timeout(30):
            pass


WORK = {"spawn": spawn, "spawn_parking": spawn_parking, "switch": switch, "timeout": timeout}
