"""curio: a task in a loop of recvfrom and sendto."""

from __future__ import annotations

import curio
from curio import socket


async def serve(port: int, recv_size: int) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", port))
    while True:
        data, peer = await sock.recvfrom(recv_size)
        await sock.sendto(data, peer)


def run(port: int, recv_size: int) -> None:
    curio.run(serve, port, recv_size)
