"""uvloop: add_reader callbacks that receive and send on plain non-blocking sockets."""

from __future__ import annotations

import asyncio
import socket

import uvloop

from bench.peers.plain_sockets import accept, listener


class Connection:
    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, size: int) -> None:
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._size = size
        self._unsent = b""
        loop.add_reader(self._fd, self._on_readable)

    def _on_readable(self) -> None:
        try:
            data = self._sock.recv(self._size)
            sent = self._send(data) if data else 0
        except BlockingIOError:
            return
        except OSError:  # reset by its peer
            data, sent = b"", 0
        if not data:
            self._loop.remove_reader(self._fd)
            self._sock.close()
        elif sent < len(data):
            self._unsent = data[sent:]
            self._loop.remove_reader(self._fd)
            self._loop.add_writer(self._fd, self._on_writable)

    def _on_writable(self) -> None:
        try:
            self._unsent = self._unsent[self._send(self._unsent) :]
        except OSError:
            self._unsent = b""  # the reader will find out
        if not self._unsent:
            self._loop.remove_writer(self._fd)
            self._loop.add_reader(self._fd, self._on_readable)

    def _send(self, data: bytes) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0


async def serve(port: int, recv_size: int) -> None:
    loop = asyncio.get_running_loop()
    server = listener(port)

    def on_acceptable() -> None:
        Connection(loop, accept(server), recv_size)

    loop.add_reader(server.fileno(), on_acceptable)
    await loop.create_future()  # for ever


def run(port: int, recv_size: int) -> None:
    uvloop.run(serve(port, recv_size))
