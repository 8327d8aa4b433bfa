"""rloop: the same coroutines as asyncio's."""

from __future__ import annotations

from bench.accounting import async_timed_twice
from bench.peers import on_rloop
from bench.peers.tasks_asyncio import WORK


def run(what: str, count: int) -> dict[str, float]:
    return on_rloop.run(async_timed_twice(WORK[what], count))
