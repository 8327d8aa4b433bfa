"""greenpump without the GIL: tasks and Channels, a pair's on one hub."""

from __future__ import annotations

import greenpump as gp
from bench.accounting import timed_twice
from bench.peers.straight_hubs import CAPACITY, PAIRS, consume, produce

INTERPRETER = "freethreaded"
SCALES_BY = "hubs"


def run(count: int, hubs: int) -> dict[str, float]:
    result: dict[str, float] = gp.run(timed_twice, pairs, count, hubs=hubs)
    return result


def pairs(count: int) -> None:
    hubs = gp.hubs()
    tasks = []
    for number in range(PAIRS):
        channel: gp.Channel[int] = gp.Channel(CAPACITY)
        hub = hubs[number % len(hubs)]
        tasks.append(gp.spawn_on(hub, produce, channel.send, count // PAIRS))
        tasks.append(gp.spawn_on(hub, consume, channel.recv, count // PAIRS))
    for task in tasks:
        task.result()
