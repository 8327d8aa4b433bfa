"""eventlet: semaphore.Semaphore, its mutex."""

from __future__ import annotations

from eventlet.semaphore import Semaphore

from bench.accounting import timed_twice


def run(what: str, count: int) -> dict[str, float]:
    return timed_twice(WORK[what], count)


def with_lock(count: int) -> None:
    lock = Semaphore()
    for _ in range(count):
        with lock:
            pass


def acquire_release(count: int) -> None:
    lock = Semaphore()
    for _ in range(count):
        lock.acquire()
        lock.release()


WORK = {"with_lock": with_lock, "acquire_release": acquire_release}
