"""uvloop: the same Protocol as asyncio's, over TLS."""

from __future__ import annotations

import uvloop

from bench.peers.tls_asyncio_protocol import serve


def run(port: int, recv_size: int, certificate: str, key: str) -> None:
    del recv_size  # the transport's own: 256 KiB
    uvloop.run(serve(port, certificate, key))
