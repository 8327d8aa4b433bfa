"""asyncio: an add_reader callback for each pair, on plain non-blocking sockets."""

from __future__ import annotations

import asyncio

from bench.accounting import Stopwatch
from bench.gate import pass_gate
from bench.peers.plain_sockets import ring_pairs


def run(pairs: int, active: int, writes: int, warmup: int) -> dict[str, float]:
    return asyncio.run(measure(pairs, active, writes, warmup))


async def measure(pairs: int, active: int, writes: int, warmup: int) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    ins, outs = ring_pairs(pairs)
    done: asyncio.Future[None]
    to_write = to_read = 0

    def hop(position: int) -> None:
        nonlocal to_write, to_read
        byte = recvs[position](1)
        if to_write:
            to_write -= 1
            sends[position](byte)
        to_read -= 1
        if not to_read:
            done.set_result(None)

    async def ring(count: int) -> None:
        nonlocal to_write, to_read, done
        to_write, to_read = count - active, count
        done = loop.create_future()
        for i in range(active):
            outs[i * (pairs // active)].send(b"x")
        await done

    recvs = [sock.recv for sock in ins]
    sends = [outs[(position + 1) % pairs].send for position in range(pairs)]
    for position, sock in enumerate(ins):
        loop.add_reader(sock.fileno(), hop, position)
    await ring(warmup)
    pass_gate()
    watch = Stopwatch()
    watch.start()
    await ring(writes)
    return watch.stop(writes)
