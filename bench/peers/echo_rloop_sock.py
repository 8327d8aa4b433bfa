"""rloop: the same sock_recv and sock_sendall as asyncio's."""

from __future__ import annotations

from bench.peers import on_rloop
from bench.peers.echo_asyncio_sock import serve


def run(port: int, recv_size: int) -> None:
    on_rloop.run(serve(port, recv_size))
