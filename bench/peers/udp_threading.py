"""The standard library: one thread that blocks in recvfrom, the least Python there can be."""

from __future__ import annotations

import socket

from bench.peers.straight_udp import echo


def run(port: int, recv_size: int) -> None:
    echo(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), port, recv_size)
