"""How late sleeps end: the same pseudo-random sleeps for every peer, and what came of them.

Not early and not late is what a timer is for; it is measured while a few hundred sleepers keep
the scheduler busy, since one sleeper on an idle machine is easy.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from statistics import quantiles

from bench.accounting import Stopwatch


@dataclass
class Lateness:
    seconds: float
    shortest_ms: float
    longest_ms: float
    late_ns: list[int] = field(default_factory=list)
    watch: Stopwatch = field(default_factory=Stopwatch)

    def __post_init__(self) -> None:
        self._end = time.monotonic_ns() + int(self.seconds * 1e9)
        self.watch.start()

    def delays(self, sleeper: int) -> Iterator[float]:
        """In seconds, until the time is over; the same for a sleeper of this number everywhere."""
        source = random.Random(sleeper)
        while time.monotonic_ns() < self._end:
            yield source.uniform(self.shortest_ms, self.longest_ms) / 1e3

    def summary(self) -> dict[str, float]:
        cost = self.watch.stop(len(self.late_ns))
        percentiles = quantiles(self.late_ns, n=100, method="inclusive")
        return {
            "p50_us": percentiles[49] / 1e3,
            "p99_us": percentiles[98] / 1e3,
            "max_us": max(self.late_ns) / 1e3,
            "early": sum(late < 0 for late in self.late_ns),
            "cpu_us": cost["cpu_us"],
            "sleeps": len(self.late_ns),
        }


def sleep_often(sleep: Callable[[float], object], sleeper: int, lateness: Lateness) -> None:
    for delay in lateness.delays(sleeper):
        due = time.monotonic_ns() + int(delay * 1e9)
        sleep(delay)
        lateness.late_ns.append(time.monotonic_ns() - due)


async def async_sleep_often(
    sleep: Callable[[float], Awaitable[object]], sleeper: int, lateness: Lateness
) -> None:
    for delay in lateness.delays(sleeper):
        due = time.monotonic_ns() + int(delay * 1e9)
        await sleep(delay)
        lateness.late_ns.append(time.monotonic_ns() - due)
