"""trio: a task in a loop of recvfrom and sendto."""

from __future__ import annotations

import trio


async def serve(port: int, recv_size: int) -> None:
    sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.1", port))
    while True:
        data, peer = await sock.recvfrom(recv_size)
        await sock.sendto(data, peer)


def run(port: int, recv_size: int) -> None:
    trio.run(serve, port, recv_size)
