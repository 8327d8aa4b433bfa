"""trio: serve_tcp and a handler that receives and sends (streams set TCP_NODELAY themselves)."""

from __future__ import annotations

import functools
import socket

import trio


def run(port: int, recv_size: int) -> None:
    async def echo(stream: trio.SocketStream) -> None:
        while data := await stream.receive_some(recv_size):
            await stream.send_all(data)

    serve = functools.partial(
        trio.serve_tcp, echo, port, host="127.0.0.1", backlog=socket.SOMAXCONN
    )
    trio.run(serve)
