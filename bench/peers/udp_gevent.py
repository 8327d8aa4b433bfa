"""gevent: a greenlet in a loop of recvfrom and sendto."""

from __future__ import annotations

import socket

import gevent.socket

from bench.peers.straight_udp import echo


def run(port: int, recv_size: int) -> None:
    echo(gevent.socket.socket(socket.AF_INET, socket.SOCK_DGRAM), port, recv_size)
