"""greenpump: tasks in sleep(3600)."""

from __future__ import annotations

import greenpump as gp
from bench.accounting import rss_bytes


def run(count: int) -> dict[str, float]:
    def park(number: int) -> None:
        for _ in range(number):
            gp.spawn(gp.sleep, 3600)
        gp.sleep(0.1)  # now all of them have begun to wait

    def main() -> dict[str, float]:
        park(10)
        before = rss_bytes()
        park(count)
        return {"grown": rss_bytes() - before}

    result: dict[str, float] = gp.run(main)
    return result
