"""greenpump: sleep."""

from __future__ import annotations

import greenpump as gp
from bench.lateness import Lateness, sleep_often


def run(sleepers: int, seconds: float, shortest_ms: float, longest_ms: float) -> dict[str, float]:
    def main() -> dict[str, float]:
        lateness = Lateness(seconds, shortest_ms, longest_ms)
        tasks = [gp.spawn(sleep_often, gp.sleep, i, lateness) for i in range(sleepers)]
        for task in tasks:
            task.join()
        return lateness.summary()

    result: dict[str, float] = gp.run(main)
    return result
