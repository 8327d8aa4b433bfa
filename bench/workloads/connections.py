"""Thousands of connections through one server at once: all answered, none left behind."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from bench.accounting import open_fds
from bench.load import Load, per_message
from bench.options import positives
from bench.outcome import FailedError
from bench.registry import Peer
from bench.server import serving
from bench.workload import Bench, Case, Metric, Sample, Workload

PRIMING = 10
CLOSE_PATIENCE = 10.0


class Connections(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--connections", type=positives, default=(10_000,))
        parser.add_argument("--seconds", type=float, default=3.0, help="measured, for each sample")

    def cases(self, args: Namespace) -> Sequence[Case]:
        return [
            Case(
                label=f"{connections:,} connections, 64 B",
                roles=("echo",),
                params={"connections": connections, "seconds": args.seconds},
            )
            for connections in args.connections
        ]

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        with serving(peer, bench) as server:
            # What a server opens at its first connection and keeps isn't a leak.
            Load(server.port, PRIMING, warmup=0, seconds=0.05, cpu=bench.load_cpu).run()
            before = steady_fds(server.pid)
            report = Load(
                port=server.port,
                connections=int(case.params["connections"]),
                seconds=float(case.params["seconds"]),
                pids=[server.pid],
                cpu=bench.load_cpu,
            ).run()
            leaked = fds_above(before, server.pid)
            if leaked:
                raise FailedError(f"{leaked} fds still open after every connection was closed")
        return per_message(report) | {"leaked_fds": leaked}


def steady_fds(pid: int) -> int:
    """The count when it has stopped changing for a moment."""
    deadline = time.monotonic() + CLOSE_PATIENCE
    last = -1
    while (count := open_fds(pid)) != last and time.monotonic() < deadline:
        last = count
        time.sleep(0.1)
    return count


def fds_above(before: int, pid: int) -> int:
    """How many more than `before` are open, once the server had time to close them."""
    deadline = time.monotonic() + CLOSE_PATIENCE
    while (count := open_fds(pid)) > before and time.monotonic() < deadline:
        time.sleep(0.05)
    return max(0, count - before)


WORKLOAD = Connections(
    name="connections",
    about="10,000 concurrent echo connections through one server",
    metrics=(
        Metric("cpu_us", "CPU µs/message"),
        Metric("throughput", "messages/s", 0),
        Metric("p50_us", "p50 µs", 0),
        Metric("p99_us", "p99 µs", 0),
        Metric("leaked_fds", "leaked fds", 0),
    ),
    compared_to=("greenpump", "c"),
    notes=(
        "Every echo of every connection is verified. A peer with a wrong or absent echo, or with "
        "an fd open after the last connection was closed, has failed and has no figures.",
    ),
)
