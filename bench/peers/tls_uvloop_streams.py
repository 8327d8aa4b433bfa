"""uvloop: the same streams as asyncio's, over TLS."""

from __future__ import annotations

import uvloop

from bench.peers.tls_asyncio_streams import serve


def run(port: int, recv_size: int, certificate: str, key: str) -> None:
    uvloop.run(serve(port, recv_size, certificate, key))
