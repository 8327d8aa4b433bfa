"""Go: time.Sleep (sleeps as random as the others', but not the same)."""

from __future__ import annotations

from bench.peers import go


def run(sleepers: int, seconds: float, shortest_ms: float, longest_ms: float) -> None:
    go.become("timers", sleepers, seconds, shortest_ms, longest_ms)
