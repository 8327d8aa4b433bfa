"""Go: channels, with as many threads as hubs (GOMAXPROCS)."""

from __future__ import annotations

from bench.peers import go

SCALES_BY = "threads"


def run(count: int, hubs: int) -> None:
    go.become("hubs", "channel", count, hubs)
