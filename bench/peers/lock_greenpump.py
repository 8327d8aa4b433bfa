"""greenpump: Mutex."""

from __future__ import annotations

import greenpump as gp
from bench.accounting import timed_twice


def run(what: str, count: int) -> dict[str, float]:
    result: dict[str, float] = gp.run(timed_twice, WORK[what], count)
    return result


def with_lock(count: int) -> None:
    lock = gp.Mutex()
    for _ in range(count):
        with lock:
            pass


def acquire_release(count: int) -> None:
    lock = gp.Mutex()
    for _ in range(count):
        lock.acquire()
        lock.release()


WORK = {"with_lock": with_lock, "acquire_release": acquire_release}
