"""curio: tcp_server and a handler that receives and sends."""

from __future__ import annotations

import socket

import curio


def run(port: int, recv_size: int) -> None:
    async def echo(conn: curio.io.Socket, peer: object) -> None:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := await conn.recv(recv_size):
            await conn.sendall(data)

    curio.run(curio.tcp_server("127.0.0.1", port, echo, backlog=socket.SOMAXCONN))
