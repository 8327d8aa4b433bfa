"""greenpump, asyncio and plain threads in one program, each calling the others.

    python -m examples.bridge

A task runs a coroutine of asyncio's. An asyncio program has a thousand blocking calls wait at once
in a TaskExecutor, and awaits a task. A plain thread puts a task on a hub and waits for its result.
"""

from __future__ import annotations

import asyncio
import threading

import greenpump as gp
from greenpump.interop import TaskExecutor, run_coroutine, wait_for_task


async def add(a: int, b: int) -> int:
    """What a library of asyncio's does."""
    await asyncio.sleep(0.01)
    return a + b


def double(n: int) -> int:
    """What straight-line code does: it waits as if it blocked."""
    gp.sleep(0.1)
    return 2 * n


async def sum_of_doubles(count: int) -> int:
    """An asyncio program that has tasks do the waiting."""
    loop = asyncio.get_running_loop()
    with TaskExecutor() as executor:
        calls = [loop.run_in_executor(executor, double, n) for n in range(count)]
        return sum(await asyncio.gather(*calls))


async def double_on(hub: gp.Hub, n: int) -> int:
    """An asyncio program that awaits a task of a hub that runs elsewhere."""
    return await wait_for_task(gp.spawn_on(hub, double, n))


def from_thread(hub: gp.Hub, found: list[int]) -> None:
    """A plain thread that has a task do its work."""
    found.append(gp.spawn_on(hub, double, 21).result())


def main() -> None:
    hub = gp.hubs()[0]
    print("a task runs a coroutine:", run_coroutine(add(1, 2)))
    print("asyncio has a thousand calls wait:", run_coroutine(sum_of_doubles(1000)))
    print("asyncio awaits a task of this hub:", run_coroutine(double_on(hub, 4)))
    found: list[int] = []
    thread = threading.Thread(target=from_thread, args=(hub, found))
    thread.start()
    gp.offload(thread.join)
    print("a thread waits for a task of this hub:", *found)


if __name__ == "__main__":
    main()
