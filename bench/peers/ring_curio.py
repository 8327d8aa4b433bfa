"""curio: a task for each pair, in a loop of recv and send on curio sockets."""

from __future__ import annotations

import curio
from curio import socket

from bench.accounting import Stopwatch
from bench.gate import pass_gate


def run(pairs: int, active: int, writes: int, warmup: int) -> dict[str, float]:
    result: dict[str, float] = curio.run(measure, pairs, active, writes, warmup)
    return result


async def measure(pairs: int, active: int, writes: int, warmup: int) -> dict[str, float]:
    ends = [socket.socketpair() for _ in range(pairs)]
    done, tell_done = socket.socketpair()
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

    for position in range(pairs):
        await curio.spawn(hop, position, daemon=True)
    await ring(warmup)
    pass_gate()
    watch = Stopwatch()
    watch.start()
    await ring(writes)
    return watch.stop(writes)
