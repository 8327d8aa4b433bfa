"""eventlet: a green thread for each pair, in a loop of recv and send."""

from __future__ import annotations

import eventlet
import eventlet.green.socket

from bench.peers import straight_ring


def run(pairs: int, active: int, writes: int, warmup: int) -> dict[str, float]:
    pair = eventlet.green.socket.socketpair
    return straight_ring.measure(pair, eventlet.spawn, pairs, active, writes, warmup)
