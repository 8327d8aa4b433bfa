"""Channels over hubs, on free-threaded CPython: between two of them, and pairs on each."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import ExitStack

from bench.gate import Gate
from bench.options import positive
from bench.process import PeerProcess
from bench.registry import Peer
from bench.workload import Bench, Case, Metric, Sample, Target, Workload
from bench.workloads.ring import share, together

PATIENCE = 300.0
HUBS = "greenpump_nogil_2hubs"


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
                (Target("", at_least=300_000, metric="throughput", of=HUBS),),
                lanes=(2,),
            ),
            Case(
                f"8 producers and their consumers, each pair on one hub (× {args.items:,})",
                ("pairs",),
                params,
                (
                    Target("greenpump_nogil", at_least=1.7, metric="throughput", of=HUBS),
                    Target("apart_nogil_2processes", at_least=0.85, metric="throughput", of=HUBS),
                ),
                lanes=(1, 2),
            ),
        ]

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        if peer.scales_by == "processes":
            return measure_apart(case, peer, bench)
        params = dict(case.params) | ({"hubs": peer.lanes} if peer.scales_by else {})
        cores = bench.cores[: peer.lanes] if peer.scales_by else bench.cores
        with PeerProcess(peer, params, cores or None) as process:
            sample: Sample = process.result(PATIENCE)
        return sample | {"throughput": 1e6 / sample["wall_us"]}


def measure_apart(case: Case, peer: Peer, bench: Bench) -> Sample:
    """A process for each lane, on a core of its own, with its share of the items."""
    params = {"count": share(int(case.params["count"]), peer.lanes, 0)}
    with ExitStack() as stack:
        gate = stack.enter_context(Gate()) if peer.lanes > 1 else None
        cores = bench.cores or [None] * peer.lanes
        processes = [
            stack.enter_context(PeerProcess(peer, params, core, gate))
            for core in cores[: peer.lanes]
        ]
        if gate is not None:
            gate.open(peer.lanes, PATIENCE)
        return together([process.result(PATIENCE) for process in processes])


WORKLOAD = Hubs(
    name="hubs",
    about="channels over several hubs, without the GIL",
    metrics=(
        Metric("wall_us", "wall µs/item", 3),
        Metric("throughput", "items/s", 0, compared=True),
        Metric("cpu_us", "CPU µs/item", 3),
    ),
    compared_to=("greenpump_nogil", HUBS),
    notes=(
        "Every item is looked at, in order. The figures are of the second time in a process, and "
        "by wall time: two cores may be used, but for the peers with one hub, which have one core.",
        "CPU µs/item: of all threads; two hubs that wait for each other spend it on waking.",
        "apart_nogil is greenpump in processes that share nothing: what two are faster than one is "
        "what the machine has to give. Where two cores are two threads of one, that is little.",
        "threading_nogil has a thread for each task and queue.Queue(100), on both cores.",
    ),
)
