"""eventlet: a green thread in a loop of recvfrom and sendto."""

from __future__ import annotations

import eventlet.green.socket

from bench.peers.straight_udp import echo


def run(port: int, recv_size: int) -> None:
    socket = eventlet.green.socket
    echo(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), port, recv_size)
