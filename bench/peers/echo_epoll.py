"""A bare select.epoll loop: the least Python there can be, level-triggered, no library."""

from __future__ import annotations

import select
import socket

from bench.peers.plain_sockets import accept, listener

EVENTS = 256


def run(port: int, recv_size: int) -> None:
    server = listener(port)
    server_fd = server.fileno()
    epoll = select.epoll()
    epoll.register(server_fd, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    unsent: dict[int, bytes] = {}

    def welcome(sock: socket.socket) -> None:
        connections[sock.fileno()] = sock
        epoll.register(sock.fileno(), select.EPOLLIN)

    def drop(fd: int) -> None:
        epoll.unregister(fd)
        unsent.pop(fd, None)
        connections.pop(fd).close()

    def send(fd: int, data: bytes) -> None:
        """All of it, or wait for room and read nothing meanwhile."""
        try:
            sent = connections[fd].send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            if unsent.pop(fd, None):
                epoll.modify(fd, select.EPOLLIN)
        else:
            if fd not in unsent:
                epoll.modify(fd, select.EPOLLOUT)
            unsent[fd] = data[sent:]

    while True:
        for fd, _ in epoll.poll(-1, EVENTS):
            if fd == server_fd:
                welcome(accept(server))
                continue
            try:
                if fd in unsent:
                    send(fd, unsent[fd])
                elif data := connections[fd].recv(recv_size):
                    send(fd, data)
                else:
                    drop(fd)
            except OSError:  # reset by its peer
                drop(fd)
