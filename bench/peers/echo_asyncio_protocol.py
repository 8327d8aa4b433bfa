"""asyncio: a Protocol that writes back in data_received."""

from __future__ import annotations

import asyncio
import socket
from typing import cast


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast(asyncio.Transport, transport).write  # transports set TCP_NODELAY

    def data_received(self, data: bytes) -> None:
        self._write(data)


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        Echo, "127.0.0.1", port, backlog=socket.SOMAXCONN, start_serving=False
    )
    await server.serve_forever()  # which, on rloop, breaks a server that serves already


def run(port: int, recv_size: int) -> None:
    del recv_size  # the transport's own: 256 KiB
    asyncio.run(serve(port))
