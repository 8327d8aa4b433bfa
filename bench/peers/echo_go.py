"""Go: a goroutine for each connection, in a loop of Read and Write."""

from __future__ import annotations

from bench.peers import go


def run(port: int, recv_size: int) -> None:
    go.become("echo", port, recv_size)
