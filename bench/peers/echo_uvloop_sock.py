"""uvloop: the same sock_recv and sock_sendall as asyncio's."""

from __future__ import annotations

import uvloop

from bench.peers.echo_asyncio_sock import serve


def run(port: int, recv_size: int) -> None:
    uvloop.run(serve(port, recv_size))
