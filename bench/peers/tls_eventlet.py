"""eventlet: serve() and a handler that shakes hands by wrap_ssl, receives and sends."""

from __future__ import annotations

import socket
from typing import Any

import eventlet
import eventlet.green.ssl

from bench.peers.echo_eventlet import MANY


def run(port: int, recv_size: int, certificate: str, key: str) -> None:
    ssl = eventlet.green.ssl

    def echo(plain: Any, peer: object) -> None:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            conn = eventlet.wrap_ssl(plain, certificate, key, server_side=True)
        except (OSError, ssl.SSLError):
            return  # it went without a handshake
        while data := conn.recv(recv_size):
            conn.sendall(data)

    listener = eventlet.listen(("127.0.0.1", port), backlog=socket.SOMAXCONN)
    eventlet.serve(listener, echo, concurrency=MANY)
