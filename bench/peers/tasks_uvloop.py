"""uvloop: the same coroutines as asyncio's."""

from __future__ import annotations

import uvloop

from bench.accounting import async_timed_twice
from bench.peers.tasks_asyncio import WORK


def run(what: str, count: int) -> dict[str, float]:
    result: dict[str, float] = uvloop.run(async_timed_twice(WORK[what], count))
    return result
