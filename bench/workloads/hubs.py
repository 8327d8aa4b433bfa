"""Channels over hubs, on free-threaded CPython: between two of them, and pairs on each."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from bench.options import positive
from bench.process import PeerProcess
from bench.registry import Peer
from bench.workload import Bench, Case, Metric, Sample, Target, Workload

PATIENCE = 300.0
GREENPUMP = "greenpump_nogil_2hubs"


class Hubs(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--items", type=positive, default=400_000)

    def cases(self, args: Namespace) -> Sequence[Case]:
        params = {"count": args.items}
        return [
            Case(
                f"from one hub to the other, through a buffer of 100 (× {args.items:,})",
                ("between",),
                params,
                (Target("", at_least=300_000, metric="throughput", of=GREENPUMP),),
                lanes=(2,),
            ),
            Case(
                f"8 producers and their consumers, each pair on one hub (× {args.items:,})",
                ("pairs",),
                params,
                (Target("greenpump_nogil", at_least=1.7, metric="throughput", of=GREENPUMP),),
                lanes=(1, 2),
            ),
        ]

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        params = dict(case.params) | ({"hubs": peer.lanes} if peer.scales_by else {})
        cores = bench.cores[: peer.lanes] if peer.scales_by else bench.cores
        with PeerProcess(peer, params, cores or None) as process:
            sample: Sample = process.result(PATIENCE)
        return sample | {"throughput": 1e6 / sample["wall_us"]}


WORKLOAD = Hubs(
    name="hubs",
    about="channels over several hubs, without the GIL",
    metrics=(
        Metric("wall_us", "wall µs/item", 3),
        Metric("throughput", "items/s", 0, compared=True),
        Metric("cpu_us", "CPU µs/item", 3),
    ),
    compared_to=("greenpump_nogil", GREENPUMP),
    notes=(
        "Every item is looked at, in order. The figures are of the second time in a process, and "
        "by wall time: two cores may be used, but for the peers with one hub, which have one core.",
        "CPU µs/item: of all threads; two hubs that wait for each other spend it on waking.",
        "threading_nogil has a thread for each task and queue.Queue(100), on both cores.",
    ),
)
