"""greenpump without the GIL: a Channel whose ends are tasks on different hubs."""

from __future__ import annotations

import greenpump as gp
from bench.accounting import timed_twice
from bench.peers.straight_hubs import CAPACITY, consume, produce

INTERPRETER = "freethreaded"
SCALES_BY = "hubs"


def run(count: int, hubs: int) -> dict[str, float]:
    result: dict[str, float] = gp.run(timed_twice, between, count, hubs=hubs)
    return result


def between(count: int) -> None:
    channel: gp.Channel[int] = gp.Channel(CAPACITY)
    task = gp.spawn_on(gp.hubs()[-1], produce, channel.send, count)
    consume(channel.recv, count)
    task.result()
