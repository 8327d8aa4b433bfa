"""A peer that serves on a loopback port while it is measured from outside."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.outcome import FailedError
from bench.process import START_PATIENCE, PeerProcess, free_port
from bench.registry import Peer
from bench.workload import Bench, Params

RECV_SIZE = 16384
"""What every peer that can choose asks of one recv (asyncio's and uvloop's transports can't)."""


@dataclass(frozen=True)
class Server:
    port: int
    pid: int


@contextmanager
def serving(
    peer: Peer, bench: Bench, more: Params | None = None, udp: bool = False
) -> Iterator[Server]:
    """`peer` as a fresh process that answers; what fails meanwhile carries its stderr.

    Beside the port and the size it gets the parameters in `more`.
    """
    port = free_port(udp)
    params = {"port": port, "recv_size": RECV_SIZE} | dict(more or {})
    with PeerProcess(peer, params, bench.server_cpu) as process:
        if udp:
            wait_until_answering(process, port)
        else:
            process.wait_until_listening(port)
        try:
            yield Server(port, process.pid)
        except FailedError as error:
            process.check_alive()  # a crash explains more than what it broke
            raise FailedError(error.reason, error.stderr or process.stderr()) from error
        process.check_alive()


def wait_until_answering(process: PeerProcess, port: int) -> None:
    """Until a datagram comes back."""
    deadline = time.monotonic() + START_PATIENCE
    while time.monotonic() < deadline:
        process.check_alive()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(1)
            try:
                probe.connect(("127.0.0.1", port))
                probe.send(b"?")
                if probe.recv(2) == b"?":
                    return
            except OSError:  # nobody there yet
                time.sleep(0.01)
    raise FailedError(f"no answer after {START_PATIENCE:g} s", process.stderr())
