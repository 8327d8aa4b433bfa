"""greenpump: spawn, join, yield_now and timeout."""

from __future__ import annotations

import greenpump as gp
from bench.accounting import timed_twice


def run(what: str, count: int) -> dict[str, float]:
    result: dict[str, float] = gp.run(timed_twice, WORK[what], count)
    return result


def nothing() -> None:
    pass


def spawn(count: int) -> None:
    for task in [gp.spawn(nothing) for _ in range(count)]:
        task.join()


def spawn_parking(count: int) -> None:
    for task in [gp.spawn(gp.yield_now) for _ in range(count)]:
        task.join()


def switch(count: int) -> None:
    def half() -> None:
        for _ in range(count // 2):
            gp.yield_now()

    for task in (gp.spawn(half), gp.spawn(half)):
        task.join()


def timeout(count: int) -> None:
    for _ in range(count):
        with gp.timeout(30):
            pass


WORK = {"spawn": spawn, "spawn_parking": spawn_parking, "switch": switch, "timeout": timeout}
