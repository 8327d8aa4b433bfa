"""What waiting costs in memory: a parked task, and an idle connection."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from bench.accounting import rss_bytes
from bench.load import Load, held
from bench.options import positive
from bench.process import PeerProcess
from bench.registry import Peer
from bench.server import serving
from bench.workload import Bench, Case, Metric, Sample, Workload

PATIENCE = 60.0
PRIMING = 20
SETTLE = 0.3


class Memory(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--count", type=positive, default=5000, help="tasks or connections")

    def cases(self, args: Namespace) -> Sequence[Case]:
        params = {"count": args.count}
        return [
            Case(f"a parked task (of {args.count:,})", ("parked",), params),
            Case(f"an idle connection (of {args.count:,})", ("echo", "idle"), params),
        ]

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        count = int(case.params["count"])
        if peer.role == "parked":
            with PeerProcess(peer, case.params, bench.server_cpu) as process:
                grown: float = process.result(PATIENCE)["grown"]
        else:
            grown = grown_by_connections(peer, bench, count)
        return {"kib": grown / 1024 / count}


def grown_by_connections(peer: Peer, bench: Bench, count: int) -> float:
    with serving(peer, bench) as server:
        # Code and pools that the first connections bring in are no cost of the 5,000th.
        with held(Load(server.port, PRIMING, cpu=bench.load_cpu)):
            pass
        time.sleep(SETTLE)
        before = rss_bytes(server.pid)
        with held(Load(server.port, count, cpu=bench.load_cpu)):
            time.sleep(SETTLE)
            return rss_bytes(server.pid) - before


WORKLOAD = Memory(
    name="memory",
    about="resident memory of what only waits",
    metrics=(Metric("kib", "KiB each"),),
    compared_to=("greenpump", "gevent"),
    notes=(
        "Growth of the process's resident set (smaps_rollup) in a fresh process, divided by the "
        "number. A parked task sleeps for an hour; an idle connection has been answered once.",
        "User space only: the kernel's socket buffers aren't in any process's resident set.",
        "greenpump_detached holds idle connections by `detach_until_readable`, without a task.",
    ),
)
