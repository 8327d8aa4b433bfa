"""Thousands of connections through one server at once: all answered, none left behind.

More than a process may have fds for are spread over several of the peer, and as many of the load.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import ExitStack

from bench.accounting import open_fds
from bench.load import Load, merged, per_message, run_together
from bench.options import positives
from bench.outcome import FailedError
from bench.registry import Peer
from bench.server import serving
from bench.spread import shares
from bench.workload import Bench, Case, Metric, Sample, Workload

PRIMING = 10
CLOSE_PATIENCE = 10.0


class Connections(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--connections", type=positives, default=(10_000,))
        parser.add_argument("--seconds", type=float, default=3.0, help="measured, for each sample")

    def cases(self, args: Namespace) -> Sequence[Case]:
        return [self._case(connections, args.seconds) for connections in args.connections]

    def _case(self, connections: int, seconds: float) -> Case:
        processes = len(shares(connections))
        over = f" over {processes} processes" if processes > 1 else ""
        return Case(
            label=f"{connections:,} connections{over}, 64 B",
            roles=("echo",),
            params={"connections": connections, "processes": processes, "seconds": seconds},
        )

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        parts = shares(int(case.params["connections"]), int(case.params["processes"]))
        with ExitStack() as stack:
            servers = [stack.enter_context(serving(peer, bench)) for _ in parts]
            # What a server opens at its first connection and keeps isn't a leak.
            for server in servers:
                Load(server.port, PRIMING, warmup=0, seconds=0.05, cpu=bench.load_cpu).run()
            before = [steady_fds(server.pid) for server in servers]
            reports = run_together(
                [
                    Load(
                        port=server.port,
                        connections=part,
                        seconds=float(case.params["seconds"]),
                        pids=[server.pid],
                        cpu=bench.load_cpu,
                    )
                    for server, part in zip(servers, parts, strict=True)
                ]
            )
            leaked = sum(
                fds_above(count, server.pid) for server, count in zip(servers, before, strict=True)
            )
            if leaked:
                raise FailedError(f"{leaked} fds still open after every connection was closed")
        return per_message(merged(reports)) | {"leaked_fds": leaked}


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
        "Over processes, the connections are all open, each answered once, before the first is "
        "measured. All servers share one core, all load generators the other; p50 and p99 are the "
        "longest of any generator's, which those of all connections don't exceed.",
    ),
)
