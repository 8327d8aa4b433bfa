"""How accurate sleeps are while many sleep at once."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from bench.options import positives
from bench.process import PeerProcess
from bench.registry import Peer
from bench.workload import Bench, Case, Metric, Sample, Workload

SLACK = 60.0


class Timers(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--sleepers", type=positives, default=(1, 200))
        parser.add_argument("--seconds", type=float, default=2.0)
        parser.add_argument("--shortest-ms", type=float, default=1.0)
        parser.add_argument("--longest-ms", type=float, default=50.0)

    def cases(self, args: Namespace) -> Sequence[Case]:
        return [
            Case(
                label=f"{sleepers} sleeping at once, {args.shortest_ms:g}–{args.longest_ms:g} ms",
                roles=("timers",),
                params={
                    "sleepers": sleepers,
                    "seconds": args.seconds,
                    "shortest_ms": args.shortest_ms,
                    "longest_ms": args.longest_ms,
                },
            )
            for sleepers in args.sleepers
        ]

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        with PeerProcess(peer, case.params, bench.server_cpu) as process:
            return process.result(float(case.params["seconds"]) + SLACK)


WORKLOAD = Timers(
    name="timers",
    about="how late sleeps end",
    metrics=(
        Metric("p50_us", "late p50 µs", 0),
        Metric("p99_us", "late p99 µs", 0),
        Metric("max_us", "late max µs", 0),
        Metric("early", "too early", 0),
        Metric("cpu_us", "CPU µs/sleep"),
    ),
    compared_to=("greenpump",),
    notes=(
        "The sleeps are pseudo-random and the same for every peer. Late is the time from when a "
        "sleep should have ended to when its task runs again, waiting for other tasks included.",
        "Too early: sleeps that ended before their time, which none should. Libraries whose clock "
        "counts milliseconds round, and show here.",
    ),
)
