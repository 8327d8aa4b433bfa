"""Pairs of threads with a queue each; not a peer itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from queue import Queue

from bench.peers.straight_hubs import CAPACITY, consume, produce


def pass_all(pairs: int, count: int) -> None:
    with ThreadPoolExecutor(2 * pairs) as pool:
        ends = []
        for _ in range(pairs):
            queue: Queue[int] = Queue(CAPACITY)
            ends.append(pool.submit(produce, queue.put, count // pairs))
            ends.append(pool.submit(consume, queue.get, count // pairs))
        for end in ends:
            end.result()
