"""Go: go and WaitGroup, Gosched, context.WithTimeout."""

from __future__ import annotations

from bench.peers import go


def run(what: str, count: int) -> None:
    go.become("tasks", what, count)
