"""The ring of libevent's benchmark: socket pairs, some of which are active at any time."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from bench.options import positive, positives
from bench.process import PeerProcess
from bench.registry import Peer
from bench.workload import Bench, Case, Metric, Sample, Target, Workload

LIBEVENT = Target("libevent", 2.6)
GEVENT = Target("gevent", 0.45)
TARGET_ACTIVE = 100
TARGETS = {1000: (LIBEVENT, GEVENT), 9900: (LIBEVENT,)}
PATIENCE = 300.0


class Ring(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        # 9,900: what fits under a hard limit of 20,000 fds.
        parser.add_argument("--pairs", type=positives, default=(1000, 9900))
        parser.add_argument("--active", type=positive, default=TARGET_ACTIVE)
        parser.add_argument("--writes", type=positive, default=300_000, help="measured")

    def cases(self, args: Namespace) -> Sequence[Case]:
        if args.active > min(*args.pairs, args.writes):
            raise SystemExit("ring: --active can't be more than --pairs or --writes")
        return [
            Case(
                label=f"{pairs} pairs, {args.active} active",
                roles=("ring",),
                params={
                    "pairs": pairs,
                    "active": args.active,
                    "writes": args.writes,
                    # Twice round: every pair has been read from, and registered where that is lazy.
                    "warmup": max(args.writes // 10, 2 * pairs),
                },
                targets=TARGETS.get(pairs, ()) if args.active == TARGET_ACTIVE else (),
            )
            for pairs in args.pairs
        ]

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        with PeerProcess(peer, case.params, bench.server_cpu) as process:
            sample: Sample = process.result(PATIENCE)
        return sample | {"throughput": 1e6 / sample["wall_us"]}


WORKLOAD = Ring(
    name="ring",
    about="a ring of socket pairs, a byte hopping from each active one to the next",
    metrics=(
        Metric("cpu_us", "CPU µs/event"),
        Metric("wall_us", "wall µs/event"),
        Metric("throughput", "events/s", 0),
    ),
    compared_to=("greenpump", "libevent"),
    notes=(
        "An event: a pair becomes readable, one byte is received from it and sent to the next "
        "pair. Set-up and a first ring that visits every pair twice aren't measured.",
        "CPU µs/event: the process's own clock, user and kernel. There is no load generator: load "
        "and peer are one process, so wall time exceeds CPU time only by what others take.",
        "Every recv asks for one byte, as libevent's own benchmark does: with a larger buffer two "
        "bytes that meet would merge and travel on as one event. An edge-triggered library can't "
        "tell from a full buffer that nothing is left, and has to ask again.",
        "asyncio, uvloop and epoll run bare callbacks on plain sockets; greenpump, gevent and trio "
        "run one task for each pair.",
    ),
)
