"""Go: time.AfterFunc and Stop."""

from __future__ import annotations

from bench.peers import go


def run(count: int) -> None:
    go.become("pending", count)
