"""trio: serve_ssl_over_tcp and a handler that receives and sends."""

from __future__ import annotations

import functools
import socket

import trio

from bench.peers.server_tls import context


def run(port: int, recv_size: int, certificate: str, key: str) -> None:
    async def echo(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            while data := await stream.receive_some(recv_size):
                await stream.send_all(data)
        except trio.BrokenResourceError:
            pass  # it went without a handshake, or without a farewell

    serve = functools.partial(
        trio.serve_ssl_over_tcp,
        echo,
        port,
        context(certificate, key),
        host="127.0.0.1",
        backlog=socket.SOMAXCONN,
    )
    trio.run(serve)
