"""asyncio: a DatagramProtocol that sends back in datagram_received."""

from __future__ import annotations

import asyncio
from typing import Any, cast


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sendto = cast(asyncio.DatagramTransport, transport).sendto

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._sendto(data, addr)


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", port))
    await loop.create_future()  # for ever


def run(port: int, recv_size: int) -> None:
    del recv_size  # the transport's own: 256 KiB
    asyncio.run(serve(port))
