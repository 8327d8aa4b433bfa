"""greenpump: Channel."""

from __future__ import annotations

import greenpump as gp
from bench.accounting import timed_twice


def run(what: str, count: int) -> dict[str, float]:
    result: dict[str, float] = gp.run(timed_twice, WORK[what], count)
    return result


def round_trip(count: int) -> None:
    there: gp.Channel[int] = gp.Channel()
    back: gp.Channel[int] = gp.Channel()

    def echo() -> None:
        for number in there:
            back.send(number)

    task = gp.spawn(echo)
    for number in range(count):
        there.send(number)
        if back.recv() != number:
            raise RuntimeError("another message came back")
    there.close()
    task.join()


def buffered(count: int) -> None:
    channel: gp.Channel[int] = gp.Channel(100)

    def produce() -> None:
        for number in range(count):
            channel.send(number)

    task = gp.spawn(produce)
    for number in range(count):
        if channel.recv() != number:
            raise RuntimeError("another message came")
    task.join()


WORK = {"round_trip": round_trip, "buffered": buffered}
