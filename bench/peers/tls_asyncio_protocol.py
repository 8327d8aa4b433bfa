"""asyncio: a Protocol that writes back in data_received, over TLS."""

from __future__ import annotations

import asyncio
import socket

from bench.peers.echo_asyncio_protocol import Echo
from bench.peers.server_tls import context


async def serve(port: int, certificate: str, key: str) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        Echo, "127.0.0.1", port, backlog=socket.SOMAXCONN, ssl=context(certificate, key)
    )
    await server.serve_forever()


def run(port: int, recv_size: int, certificate: str, key: str) -> None:
    del recv_size  # the transport's own: 256 KiB
    asyncio.run(serve(port, certificate, key))
