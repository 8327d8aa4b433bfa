"""asyncio streams: a handler that awaits read, write and drain, over TLS."""

from __future__ import annotations

import asyncio
import functools
import socket

from bench.peers.echo_asyncio_streams import echo
from bench.peers.server_tls import context


async def serve(port: int, recv_size: int, certificate: str, key: str) -> None:
    server = await asyncio.start_server(
        functools.partial(echo, recv_size),
        "127.0.0.1",
        port,
        backlog=socket.SOMAXCONN,
        ssl=context(certificate, key),
    )
    await server.serve_forever()


def run(port: int, recv_size: int, certificate: str, key: str) -> None:
    asyncio.run(serve(port, recv_size, certificate, key))
