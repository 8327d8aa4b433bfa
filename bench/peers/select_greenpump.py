"""greenpump: select."""

from __future__ import annotations

import greenpump as gp
from bench.accounting import timed_twice


def run(what: str, count: int) -> dict[str, float]:
    result: dict[str, float] = gp.run(timed_twice, WORK[what], count)
    return result


def parked(count: int) -> None:
    channels: list[gp.Channel[int]] = [gp.Channel() for _ in range(4)]

    def produce() -> None:
        for number in range(count):
            channels[number % 4].send(number)

    a, b, c, d = (gp.receiving(channel) for channel in channels)
    task = gp.spawn(produce)
    for number in range(count):
        if gp.select(a, b, c, d) != (number % 4, number):
            raise RuntimeError("another message came")
    task.join()


def ready(count: int) -> None:
    channels: list[gp.Channel[int]] = [gp.Channel(1) for _ in range(4)]
    a, b, c, d = (gp.receiving(channel) for channel in channels)
    for number in range(count):
        channels[number % 4].send(number)
        if gp.select(a, b, c, d) != (number % 4, number):
            raise RuntimeError("another message came")


WORK = {"parked": parked, "ready": ready}
