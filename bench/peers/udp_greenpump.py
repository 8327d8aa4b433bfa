"""greenpump: a task in a loop of recvfrom and sendto."""

from __future__ import annotations

import socket

import greenpump as gp
from bench.peers.straight_udp import echo


def run(port: int, recv_size: int) -> None:
    gp.run(echo, gp.Socket(socket.AF_INET, socket.SOCK_DGRAM), port, recv_size)
