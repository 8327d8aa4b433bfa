"""uvloop: the same call_later and cancel as asyncio's."""

from __future__ import annotations

import uvloop

from bench.peers.pending_asyncio import measure


def run(count: int) -> dict[str, float]:
    result: dict[str, float] = uvloop.run(measure(count))
    return result
