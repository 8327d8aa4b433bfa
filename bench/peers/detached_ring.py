"""The ring as functions that are called for each byte: no pair holds a stack.

Shared by greenpump's peers with and without the GIL; not a peer itself.
"""

from __future__ import annotations

from collections.abc import Callable

import greenpump as gp


def make(pairs: int, active: int) -> Callable[[int], None]:
    """A ring with a function for each pair; what is returned runs it for a count of events."""
    ends = [gp.socketpair() for _ in range(pairs)]
    done, tell_done = gp.socketpair()
    to_write = to_read = 0

    def hop_from(position: int) -> Callable[[gp.Socket], None]:
        recv = ends[position][0].recv
        send = ends[(position + 1) % pairs][1].send

        def hop(conn: gp.Socket) -> None:
            nonlocal to_write, to_read
            byte = recv(1)
            if to_write:
                to_write -= 1
                send(byte)
            to_read -= 1
            if not to_read:
                tell_done.send(byte)

        return hop

    def ring(count: int) -> None:
        nonlocal to_write, to_read
        to_write, to_read = count - active, count
        for i in range(active):
            ends[i * (pairs // active)][1].send(b"x")
        done.recv(1)

    for position, (end, _) in enumerate(ends):
        end.detach_until_readable(hop_from(position), persist=True)
    return ring
