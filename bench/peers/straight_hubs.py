"""The two ends of a channel that the peers of `hubs` share; not a peer itself."""

from __future__ import annotations

from collections.abc import Callable

PAIRS = 8  # and in bench/go/costs.go
CAPACITY = 100


def produce(send: Callable[[int], object], count: int) -> None:
    for number in range(count):
        send(number)


def consume(recv: Callable[[], int], count: int) -> None:
    for number in range(count):
        if recv() != number:
            raise RuntimeError("another message came")
