"""Set-up shared by the peers that work on plain non-blocking sockets; not a peer itself."""

from __future__ import annotations

import socket


def listener(port: int) -> socket.socket:
    sock = socket.create_server(("127.0.0.1", port), backlog=socket.SOMAXCONN)
    sock.setblocking(False)
    return sock


def accept(server: socket.socket) -> socket.socket:
    sock, _ = server.accept()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def ring_pairs(count: int) -> tuple[list[socket.socket], list[socket.socket]]:
    """(ins, outs): a byte sent to outs[i] is received from ins[i]."""
    ins, outs = [], []
    for _ in range(count):
        end, start = socket.socketpair()
        end.setblocking(False)
        start.setblocking(False)
        ins.append(end)
        outs.append(start)
    return ins, outs
