"""Go: sync.Mutex."""

from __future__ import annotations

from bench.peers import go


def run(what: str, count: int) -> None:
    go.become("lock", what, count)
