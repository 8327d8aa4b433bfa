"""greenpump: serve() and detach_until_readable with persist, a function for each message."""

from __future__ import annotations

import socket

import greenpump as gp


def run(port: int, recv_size: int) -> None:
    def echo(conn: gp.Socket) -> None:
        if data := conn.recv(recv_size):
            conn.sendall(data)
        else:
            conn.close()

    def begin(conn: gp.Socket, peer: object) -> None:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn.detach_until_readable(echo, persist=True)

    gp.serve(begin, ("127.0.0.1", port))
