"""A bare select.epoll loop: the least Python there can be, level-triggered, no library."""

from __future__ import annotations

import select

from bench.accounting import Stopwatch
from bench.gate import pass_gate
from bench.peers.plain_sockets import ring_pairs

EVENTS = 256


def run(pairs: int, active: int, writes: int, warmup: int) -> dict[str, float]:
    ins, outs = ring_pairs(pairs)
    epoll = select.epoll()
    recv_send = {}
    for position, sock in enumerate(ins):
        epoll.register(sock.fileno(), select.EPOLLIN)
        recv_send[sock.fileno()] = (sock.recv, outs[(position + 1) % pairs].send)

    def ring(count: int) -> None:
        to_write, to_read = count - active, count
        for i in range(active):
            outs[i * (pairs // active)].send(b"x")
        while to_read:
            for fd, _ in epoll.poll(-1, EVENTS):
                recv, send = recv_send[fd]
                byte = recv(1)
                if to_write:
                    to_write -= 1
                    send(byte)
                to_read -= 1

    ring(warmup)
    pass_gate()
    watch = Stopwatch()
    watch.start()
    ring(writes)
    return watch.stop(writes)
