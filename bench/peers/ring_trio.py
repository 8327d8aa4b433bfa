"""trio: a task for each pair, in a loop of recv and send on trio sockets."""

from __future__ import annotations

import trio

from bench.accounting import Stopwatch
from bench.gate import pass_gate


def run(pairs: int, active: int, writes: int, warmup: int) -> dict[str, float]:
    result: dict[str, float] = trio.run(measure, pairs, active, writes, warmup)
    return result


async def measure(pairs: int, active: int, writes: int, warmup: int) -> dict[str, float]:
    ends = [trio.socket.socketpair() for _ in range(pairs)]
    done, tell_done = trio.socket.socketpair()
    to_write = to_read = 0

    async def hop(position: int) -> None:
        nonlocal to_write, to_read
        recv = ends[position][0].recv
        send = ends[(position + 1) % pairs][1].send
        while True:
            byte = await recv(1)
            if to_write:
                to_write -= 1
                await send(byte)
            to_read -= 1
            if not to_read:
                await tell_done.send(byte)

    async def ring(count: int) -> None:
        nonlocal to_write, to_read
        to_write, to_read = count - active, count
        for i in range(active):
            await ends[i * (pairs // active)][1].send(b"x")
        await done.recv(1)

    async with trio.open_nursery() as nursery:
        for position in range(pairs):
            nursery.start_soon(hop, position)
        await ring(warmup)
        pass_gate()
        watch = Stopwatch()
        watch.start()
        await ring(writes)
        result = watch.stop(writes)
        nursery.cancel_scope.cancel()
    return result
