"""UDP echo as straight-line code, for sockets that block only their task; not a peer itself."""

from __future__ import annotations

import socket


def echo(sock: socket.socket, port: int, recv_size: int) -> None:
    sock.bind(("127.0.0.1", port))
    while True:
        data, peer = sock.recvfrom(recv_size)
        sock.sendto(data, peer)
