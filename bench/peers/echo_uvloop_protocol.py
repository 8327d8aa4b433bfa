"""uvloop: the same Protocol as asyncio's."""

from __future__ import annotations

import uvloop

from bench.peers.echo_asyncio_protocol import serve


def run(port: int, recv_size: int) -> None:
    del recv_size  # the transport's own: 256 KiB
    uvloop.run(serve(port))
