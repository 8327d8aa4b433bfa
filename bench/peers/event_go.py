"""Go: a channel that is closed."""

from __future__ import annotations

from bench.peers import go


def run(what: str, count: int) -> None:
    go.become("event", what, count)
