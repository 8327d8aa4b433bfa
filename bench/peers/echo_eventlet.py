"""eventlet: serve() and a handler that receives and sends, as its users write it."""

from __future__ import annotations

import socket

import eventlet

MANY = 1 << 20  # connections at once; 1,000 unless told otherwise


def run(port: int, recv_size: int) -> None:
    def echo(conn: socket.socket, peer: object) -> None:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := conn.recv(recv_size):
            conn.sendall(data)

    listener = eventlet.listen(("127.0.0.1", port), backlog=socket.SOMAXCONN)
    eventlet.serve(listener, echo, concurrency=MANY)
