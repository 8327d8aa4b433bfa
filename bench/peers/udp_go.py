"""Go: ReadFromUDPAddrPort and WriteToUDPAddrPort in a loop."""

from __future__ import annotations

from bench.peers import go


def run(port: int, recv_size: int) -> None:
    go.become("udp", port, recv_size)
