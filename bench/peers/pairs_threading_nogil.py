"""Threads without the GIL: queue.Queue, two threads for each pair."""

from __future__ import annotations

from bench.accounting import timed_twice
from bench.peers.straight_hubs import PAIRS
from bench.peers.threaded_pairs import pass_all

INTERPRETER = "freethreaded"


def run(count: int) -> dict[str, float]:
    return timed_twice(pairs, count)


def pairs(count: int) -> None:
    pass_all(PAIRS, count)
