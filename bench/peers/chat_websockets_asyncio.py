"""asyncio: the library websockets, whose `broadcast` sends to all at once."""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosedError

from bench.peers.room import Room


def run(port: int, recv_size: int) -> None:
    asyncio.run(chat(port))


async def chat(port: int) -> None:
    room = Room()
    subscribers: set[ServerConnection] = set()

    async def handle(conn: ServerConnection) -> None:
        assert conn.request is not None
        if conn.request.path.endswith("?channel=room"):
            subscribers.add(conn)
            await conn.send(room.hello(len(subscribers)))
        try:
            async for said in conn:
                message, answer = room.publish(said)
                broadcast(subscribers, message)
                await conn.send(answer)
        except ConnectionClosedError:
            pass  # it left without a word
        subscribers.discard(conn)

    # Its sign of life is as far off as everybody's: none falls into the measurement.
    async with serve(
        handle, "127.0.0.1", port, compression=None, ping_interval=3600, backlog=4096
    ) as server:
        await server.serve_forever()
