"""What waiting costs in memory: a parked task, and an idle connection.

A process may have only so many fds, so more connections than that are spread over processes: some
of the peer, and as many of the load.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import ExitStack

from bench.accounting import rss_bytes
from bench.load import Load, held
from bench.options import positives
from bench.process import PeerProcess
from bench.registry import Peer
from bench.server import serving
from bench.spread import IN_A_PROCESS, shares
from bench.workload import Bench, Case, Metric, Sample, Target, Workload

PATIENCE = 60.0
PRIMING = 20
SETTLE = 0.3
FULL = 100_000
TARGETS = (
    Target("", at_most=7.5),
    Target("", at_most=0.8, of="greenpump_detached"),
)


class Memory(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--count", type=positives, default=(1000, IN_A_PROCESS), help="tasks or connections"
        )
        parser.add_argument(
            "--full", action="store_true", help=f"and {FULL:,} connections over processes"
        )

    def cases(self, args: Namespace) -> Sequence[Case]:
        counts = [*args.count, FULL] if args.full else args.count
        tasks = [
            Case(f"a parked task (of {count:,})", ("parked",), {"count": count})
            for count in args.count
        ]
        return tasks + [self._idle(count) for count in counts]

    def _idle(self, count: int) -> Case:
        processes = len(shares(count))
        over = f" over {processes} processes" if processes > 1 else ""
        return Case(
            f"an idle connection (of {count:,}{over})",
            ("echo",),
            {"count": count, "processes": processes},
            TARGETS if count >= IN_A_PROCESS else (),
        )

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        count = int(case.params["count"])
        if peer.role == "parked":
            with PeerProcess(peer, case.params, bench.server_cpu) as process:
                grown: float = process.result(PATIENCE)["grown"]
        else:
            grown = grown_by_connections(peer, bench, shares(count, int(case.params["processes"])))
        return {"kib": grown / 1024 / count}


def grown_by_connections(peer: Peer, bench: Bench, connections: Sequence[int]) -> float:
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(peer, bench)) for _ in connections]
        # Code and pools that the first connections bring in are no cost of the 5,000th.
        for server in servers:
            with held(Load(server.port, PRIMING, cpu=bench.load_cpu)):
                pass
        time.sleep(SETTLE)
        before = sum(rss_bytes(server.pid) for server in servers)
        holding = []
        for server, share in zip(servers, connections, strict=True):
            load = Load(server.port, share, cpu=bench.load_cpu)
            holding.append(stack.enter_context(held(load)))
        time.sleep(SETTLE)
        grown = sum(rss_bytes(server.pid) for server in servers) - before
        for each in holding:
            each.ask()
        return grown


WORKLOAD = Memory(
    name="memory",
    about="resident memory of what only waits",
    metrics=(Metric("kib", "KiB each"),),
    compared_to=("greenpump", "gevent"),
    notes=(
        "Growth of the process's resident set (smaps_rollup) in a fresh process, divided by the "
        "number. A parked task sleeps for an hour; an idle connection has been answered once, and "
        "is answered again after the measurement: all of them, or the peer has failed.",
        "User space only: the kernel's socket buffers aren't in any process's resident set.",
        "greenpump_detached holds idle connections by `detach_until_readable`, without a stack.",
    ),
)
