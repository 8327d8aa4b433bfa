"""Threads without the GIL: queue.Queue."""

from __future__ import annotations

from bench.accounting import timed_twice
from bench.peers.threaded_pairs import pass_all

INTERPRETER = "freethreaded"


def run(count: int) -> dict[str, float]:
    return timed_twice(between, count)


def between(count: int) -> None:
    pass_all(1, count)
