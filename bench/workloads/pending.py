"""What it costs to set and to cancel a timer while a hundred thousand others are pending."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from bench.options import positives
from bench.process import PeerProcess
from bench.registry import Peer
from bench.workload import Bench, Case, Metric, Sample, Target, Workload

PATIENCE = 120.0
TARGETS = (Target("", at_most=1.0, metric="set_us"), Target("", at_most=1.0, metric="cancel_us"))


class Pending(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--timers", type=positives, default=(100_000,), help="pending at once")

    def cases(self, args: Namespace) -> Sequence[Case]:
        return [
            Case(f"{count:,} timers", ("pending",), {"count": count}, TARGETS)
            for count in args.timers
        ]

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        with PeerProcess(peer, case.params, bench.server_cpu) as process:
            return process.result(PATIENCE)


WORKLOAD = Pending(
    name="pending",
    about="set so many timers, then cancel them",
    metrics=(
        Metric("cpu_us", "CPU µs/set + cancel", 3),
        Metric("set_us", "CPU µs/set", 3),
        Metric("cancel_us", "CPU µs/cancel", 3),
    ),
    compared_to=("greenpump", "asyncio"),
    notes=(
        "All are set, 30 to 90 s ahead in random order, then cancelled in another; the figures are "
        "those of the second time in a process. Before it short timers are tried: who is cancelled "
        "must not fire, and everyone else must.",
        "A Timer of greenpump enters a heap only when somebody waits for it; greenpump_later's "
        "stand in the heap, as everyone else's do.",
        "What a cancelled timer leaves behind for later (entries of a heap that are passed over "
        "when due) is no part of the figures. trio and curio have timers only as scopes around "
        "code: see tasks.",
    ),
)
