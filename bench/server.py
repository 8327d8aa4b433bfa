"""A peer that serves on a loopback port while it is measured from outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.outcome import FailedError
from bench.process import PeerProcess, free_port
from bench.registry import Peer
from bench.workload import Bench

RECV_SIZE = 16384
"""What every peer that can choose asks of one recv (asyncio's and uvloop's transports can't)."""


@dataclass(frozen=True)
class Server:
    port: int
    pid: int


@contextmanager
def serving(peer: Peer, bench: Bench) -> Iterator[Server]:
    """`peer` as a fresh process that answers; what fails meanwhile carries its stderr."""
    port = free_port()
    params = {"port": port, "recv_size": RECV_SIZE}
    with PeerProcess(peer, params, bench.server_cpu) as process:
        process.wait_until_listening(port)
        try:
            yield Server(port, process.pid)
        except FailedError as error:
            process.check_alive()  # a crash explains more than what it broke
            raise FailedError(error.reason, error.stderr or process.stderr()) from error
        process.check_alive()
