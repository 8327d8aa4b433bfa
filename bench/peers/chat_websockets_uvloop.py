"""uvloop: the same chat as asyncio's, by the library websockets."""

from __future__ import annotations

import uvloop

from bench.peers.chat_websockets_asyncio import chat


def run(port: int, recv_size: int) -> None:
    uvloop.run(chat(port))
