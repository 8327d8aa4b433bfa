"""gevent: StreamServer and a handler that receives and sends, as its users write it."""

from __future__ import annotations

import socket

import gevent.socket
from gevent.server import StreamServer


def run(port: int, recv_size: int) -> None:
    def echo(conn: gevent.socket.socket, peer: object) -> None:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := conn.recv(recv_size):
            conn.sendall(data)

    StreamServer(("127.0.0.1", port), echo, backlog=socket.SOMAXCONN).serve_forever()
