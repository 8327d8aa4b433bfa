"""curio: Lock."""

from __future__ import annotations

import curio

from bench.accounting import async_timed_twice


def run(what: str, count: int) -> dict[str, float]:
    result: dict[str, float] = curio.run(async_timed_twice, WORK[what], count)
    return result


async def with_lock(count: int) -> None:
    lock = curio.Lock()
    for _ in range(count):
        async with lock:
            pass


async def acquire_release(count: int) -> None:
    lock = curio.Lock()
    for _ in range(count):
        await lock.acquire()
        await lock.release()


WORK = {"with_lock": with_lock, "acquire_release": acquire_release}
