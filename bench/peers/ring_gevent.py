"""gevent: a greenlet for each pair, in a loop of recv and send."""

from __future__ import annotations

import gevent
from gevent import socket

from bench.peers import straight_ring


def run(pairs: int, active: int, writes: int, warmup: int) -> dict[str, float]:
    return straight_ring.measure(socket.socketpair, gevent.spawn, pairs, active, writes, warmup)
