"""The ring as straight-line code: a task for each pair, in a loop of recv and send.

Shared by the peers whose sockets block only their task; not a peer itself.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from bench.accounting import Stopwatch
from bench.gate import pass_gate


def make(
    socketpair: Callable[[], Sequence[socket.socket]],
    spawn: Callable[[Callable[[int], None], int], object],
    pairs: int,
    active: int,
) -> Callable[[int], None]:
    """A ring with a task waiting at each pair; what is returned runs it for a count of events."""
    ends = [socketpair() for _ in range(pairs)]
    done, tell_done = socketpair()
    to_write = to_read = 0

    def hop(position: int) -> None:
        nonlocal to_write, to_read
        recv = ends[position][0].recv
        send = ends[(position + 1) % pairs][1].send
        while True:
            byte = recv(1)
            if to_write:
                to_write -= 1
                send(byte)
            to_read -= 1
            if not to_read:
                tell_done.send(byte)

    def ring(count: int) -> None:
        nonlocal to_write, to_read
        to_write, to_read = count - active, count
        for i in range(active):
            ends[i * (pairs // active)][1].send(b"x")
        done.recv(1)

    for position in range(pairs):
        spawn(hop, position)
    return ring


def measure(
    socketpair: Callable[[], Sequence[socket.socket]],
    spawn: Callable[[Callable[[int], None], int], object],
    pairs: int,
    active: int,
    writes: int,
    warmup: int,
) -> dict[str, float]:
    return timed(make(socketpair, spawn, pairs, active), writes, warmup)


def timed(ring: Callable[[int], None], writes: int, warmup: int) -> dict[str, float]:
    """Run a ring for so many events, after some that nobody counts."""
    ring(warmup)
    pass_gate()
    watch = Stopwatch()
    watch.start()
    ring(writes)
    return watch.stop(writes)
