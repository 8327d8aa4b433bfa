"""uvloop: the same streams as asyncio's."""

from __future__ import annotations

import uvloop

from bench.peers.echo_asyncio_streams import serve


def run(port: int, recv_size: int) -> None:
    uvloop.run(serve(port, recv_size))
