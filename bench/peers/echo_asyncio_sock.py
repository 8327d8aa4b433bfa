"""asyncio: a task for each connection, in a loop of sock_recv and sock_sendall."""

from __future__ import annotations

import asyncio
import socket

from bench.peers.plain_sockets import listener


async def echo(loop: asyncio.AbstractEventLoop, sock: socket.socket, recv_size: int) -> None:
    with sock:
        while data := await loop.sock_recv(sock, recv_size):
            await loop.sock_sendall(sock, data)


async def serve(port: int, recv_size: int) -> None:
    loop = asyncio.get_running_loop()
    server = listener(port)
    tasks = set()
    while True:
        sock, _ = await loop.sock_accept(server)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = loop.create_task(echo(loop, sock, recv_size))
        tasks.add(task)  # the loop itself keeps only weak references
        task.add_done_callback(tasks.discard)


def run(port: int, recv_size: int) -> None:
    asyncio.run(serve(port, recv_size))
