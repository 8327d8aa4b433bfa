"""Go: crypto/tls, a goroutine for each connection."""

from __future__ import annotations

from bench.peers import go


def run(port: int, recv_size: int, certificate: str, key: str) -> None:
    go.become("tls", port, recv_size, certificate, key)
