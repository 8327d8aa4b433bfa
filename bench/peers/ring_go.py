"""Go: a goroutine for each pair, in a loop of Read and Write."""

from __future__ import annotations

from bench.peers import go


def run(pairs: int, active: int, writes: int, warmup: int) -> None:
    go.become("ring", pairs, active, writes, warmup)
