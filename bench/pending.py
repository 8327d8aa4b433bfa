"""What many pending timers cost to set and to cancel: the same times and order for every peer.

Each peer brings `set_all(delays)`, which sets a timer for each and returns them, and
`cancel_all(timers)`: loops of its own, so that nothing stands between it and its library.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from bench.accounting import Stopwatch

T = TypeVar("T")
SetAll = Callable[[list[float]], list[T]]
CancelAll = Callable[[list[T]], object]

TRIED = 100
SHORT = 0.002  # seconds
LONG_ENOUGH = 0.05
"""Seconds after which what `try_half` left must have fired; the peer waits them in its own way."""


def try_half(set_all: SetAll[T], cancel_all: CancelAll[T]) -> list[T]:
    """Sets short timers and cancels every other one; returns all of them."""
    timers = set_all([SHORT] * TRIED)
    cancel_all(timers[::2])
    return timers


def check(fired: int) -> None:
    """After `try_half`: those that were left have fired, and no other."""
    if fired != TRIED // 2:
        raise RuntimeError(f"{fired} timers fired, not {TRIED // 2}")


def cost(set_all: SetAll[T], cancel_all: CancelAll[T], count: int) -> dict[str, float]:
    """Of `count` timers, set 30 to 90 s ahead and cancelled in another order: the second time."""
    source = random.Random(count)
    delays = [source.uniform(30, 90) for _ in range(count)]
    watch = Stopwatch()
    for _ in range(2):
        watch.start()
        timers = set_all(delays)
        setting = watch.stop(count)
        source.shuffle(timers)
        watch.start()
        cancel_all(timers)
        cancelling = watch.stop(count)
        del timers
    return {
        "cpu_us": setting["cpu_us"] + cancelling["cpu_us"],
        "set_us": setting["cpu_us"],
        "cancel_us": cancelling["cpu_us"],
    }
