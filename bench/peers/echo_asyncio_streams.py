"""asyncio streams: a handler that awaits read, write and drain."""

from __future__ import annotations

import asyncio
import functools
import socket


async def echo(recv_size: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(recv_size):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def serve(port: int, recv_size: int) -> None:
    handler = functools.partial(echo, recv_size)
    server = await asyncio.start_server(
        handler, "127.0.0.1", port, backlog=socket.SOMAXCONN, start_serving=False
    )
    await server.serve_forever()  # which, on rloop, breaks a server that serves already


def run(port: int, recv_size: int) -> None:
    asyncio.run(serve(port, recv_size))
