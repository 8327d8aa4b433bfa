"""rloop: the same Protocol as asyncio's."""

from __future__ import annotations

from bench.peers import on_rloop
from bench.peers.echo_asyncio_protocol import serve


def run(port: int, recv_size: int) -> None:
    del recv_size  # the transport's own
    on_rloop.run(serve(port))
