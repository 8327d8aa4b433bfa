"""uvloop: the same DatagramProtocol as asyncio's."""

from __future__ import annotations

import uvloop

from bench.peers.udp_asyncio import serve


def run(port: int, recv_size: int) -> None:
    del recv_size  # the transport's own
    uvloop.run(serve(port))
