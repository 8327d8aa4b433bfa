"""The ring of libevent's benchmark: socket pairs, some of which are active at any time.

More pairs than one process may have fds for are spread over processes, and so is a peer that is
played in several; a peer with several hubs has a ring for each. Each ring then has its share of the
pairs, the active ones and the writes, all of them start at once, and the slowest one's end counts.
"""

from __future__ import annotations

import os
import resource
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import ExitStack

from bench.gate import Gate
from bench.options import positive, positives
from bench.process import PeerProcess
from bench.registry import Peer
from bench.workload import Bench, Case, Metric, Sample, Target, Workload

PAIRS = (100, 1000, 9900)
ACTIVE = (100, 1000)
FULL_PAIRS = (100, 200, 500, 1000, 2000, 5000, 9900, 19_800, 49_500, 99_000)
FULL_ACTIVE = (1, 100, 1000)
FDS_BESIDE = 200  # what a process needs beside the pairs
PATIENCE = 300.0

ONE_CORE = tuple(
    target
    for name in ("greenpump", "greenpump_detached")
    for target in (Target("uvloop", at_most=1.2, of=name), Target("libevent", at_most=2.0, of=name))
)
GEVENT = Target("gevent", at_most=0.45)
TWO_CORES = tuple(
    target
    for name in ("greenpump", "greenpump_detached")
    for target in (
        Target(name, at_least=1.85, of=f"{name}_2processes", metric="throughput"),
        Target(f"{name}_nogil", at_least=1.85, of=f"{name}_nogil_2hubs", metric="throughput"),
        Target("libevent", at_most=1.4, of=f"{name}_nogil_2hubs", metric="wall_us"),
    )
)
TARGETS = {1000: (*ONE_CORE, GEVENT), 9900: ONE_CORE}
TARGET_ACTIVE = 100


class Ring(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--pairs", type=positives, help=f"None is {PAIRS}")
        parser.add_argument("--active", type=positives, help=f"None is {ACTIVE}")
        parser.add_argument(
            "--writes", type=positive, default=50_000, help="measured; as many as pairs at least"
        )
        parser.add_argument(
            "--full",
            action="store_true",
            help=f"all points of the plots: pairs {FULL_PAIRS}, active {FULL_ACTIVE}",
        )

    def cases(self, args: Namespace) -> Sequence[Case]:
        points = [
            (pairs, active)
            for active in args.active or (FULL_ACTIVE if args.full else ACTIVE)
            for pairs in args.pairs or (FULL_PAIRS if args.full else PAIRS)
            if processes_for(pairs) <= active <= min(pairs, args.writes)
        ]
        if not points:
            raise SystemExit(
                "ring: --active can't be more than --pairs or --writes, nor less than the "
                "processes that many pairs need"
            )
        return [case(pairs, active, max(args.writes, pairs)) for pairs, active in points]

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        whole = [int(case.params[key]) for key in ("pairs", "active", "writes", "warmup")]
        processes = processes_for(whole[0])
        cpus: list[int | Sequence[int] | None] = [bench.server_cpu] * processes
        if peer.scales_by == "processes":
            processes = -(-processes // peer.lanes) * peer.lanes  # as many on each core
            cpus = [bench.cores[n % peer.lanes] if bench.cores else None for n in range(processes)]
        elif peer.lanes > 1:
            cpus = [bench.cores[: peer.lanes] or None] * processes
        with ExitStack() as stack:
            gate = stack.enter_context(Gate()) if processes > 1 else None
            started = []
            for number in range(processes):
                pairs, active, writes, warmup = (share(each, processes, number) for each in whole)
                params = {"pairs": pairs, "active": active, "writes": writes, "warmup": warmup}
                if peer.scales_by == "hubs":
                    params["hubs"] = peer.lanes
                process = PeerProcess(peer, params, cpus[number], gate)
                started.append(stack.enter_context(process))
            if gate is not None:
                gate.open(processes, PATIENCE)
            return together([process.result(PATIENCE) for process in started])


def processes_for(pairs: int) -> int:
    """How many processes it takes to hold the pairs, by the hard limit of open files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return 1
    return -(-pairs // ((hard - FDS_BESIDE) // 2))


def share(whole: int, parts: int, number: int) -> int:
    """What the `number`-th of `parts` gets of a whole that is dealt out evenly."""
    return whole * (number + 1) // parts - whole * number // parts


def together(samples: Sequence[Sample]) -> Sample:
    """One sample of rings that ran at the same time."""
    events = sum(sample["events"] for sample in samples)
    wall_us = max(sample["wall_us"] * sample["events"] for sample in samples) / events
    return {
        "events": events,
        "cpu_us": sum(sample["cpu_us"] * sample["events"] for sample in samples) / events,
        "wall_us": wall_us,
        "throughput": 1e6 / wall_us,
    }


def case(pairs: int, active: int, writes: int) -> Case:
    lanes = tuple(k for k in all_lanes() if k <= active)
    targets = TARGETS.get(pairs, ()) if active == TARGET_ACTIVE else ()
    if targets and 2 in lanes:
        targets += TWO_CORES
    return Case(
        label=f"{pairs:,} pairs, {active:,} active",
        roles=("ring",),
        params={
            "pairs": pairs,
            "active": active,
            "writes": writes,
            # Five times round, since some tokens are faster than others: every pair has been read
            # from as often as a library needs to settle on how it waits there (greenpump: thrice).
            "warmup": max(writes // 10, 5 * pairs),
        },
        targets=targets,
        lanes=lanes,
    )


def all_lanes() -> list[int]:
    """1, 2, 4, … and as many as there are cores."""
    cores = len(os.sched_getaffinity(0))
    return sorted({1 << bit for bit in range(cores.bit_length())} | {cores})


WORKLOAD = Ring(
    name="ring",
    about="a ring of socket pairs, a byte hopping from each active one to the next",
    metrics=(
        Metric("cpu_us", "CPU µs/event"),
        Metric("wall_us", "wall µs/event", compared=True),
        Metric("throughput", "events/s", 0),
    ),
    compared_to=("greenpump", "libevent"),
    notes=(
        "An event: a pair becomes readable, one byte is received from it and sent to the next "
        "pair. Set-up and a first ring that visits every pair five times aren't measured.",
        "CPU µs/event: the processes' own clocks, user and kernel. There is no load generator: "
        "load and peer are one process. On one core wall time exceeds CPU time only by what "
        "others take, so CPU time is what is compared; of several processes or hubs, each on a "
        "core of its own, it is the wall time (the speed) that tells.",
        "With several processes or hubs each has a ring with its share of the pairs, the active "
        "ones and the writes; all start at once, and the end of the slowest counts. So do the "
        "processes on one core that more pairs need than one process may have fds for.",
        "Every recv asks for one byte, as libevent's own benchmark does: with a larger buffer two "
        "bytes that meet would merge and travel on as one event. An edge-triggered library can't "
        "tell from a full buffer that nothing is left, and has to ask again.",
        "asyncio, uvloop and epoll run bare callbacks on plain sockets, greenpump_detached calls a "
        "function that may block (detach_until_readable with persist); greenpump, gevent and trio "
        "run one task for each pair.",
    ),
)
