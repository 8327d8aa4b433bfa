"""Go: goroutines in time.Sleep(time.Hour)."""

from __future__ import annotations

from bench.peers import go


def run(count: int) -> None:
    go.become("parked", count)
