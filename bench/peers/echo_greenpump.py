"""greenpump: serve() and a handler that receives and sends, as its users write it."""

from __future__ import annotations

import socket

import greenpump as gp


def run(port: int, recv_size: int) -> None:
    def echo(conn: gp.Socket, peer: object) -> None:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := conn.recv(recv_size):
            conn.sendall(data)

    gp.serve(echo, ("127.0.0.1", port))
