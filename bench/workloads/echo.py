"""TCP echo on loopback: closed-loop connections, every byte verified by the load generator."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from bench.load import Load, per_message
from bench.options import positive, positives
from bench.registry import Peer
from bench.server import serving
from bench.workload import Bench, Case, Metric, Sample, Target, Workload

LIMITS = {
    "c": 1.3,
    "uvloop_protocol": 1.1,
    "gevent": 0.45,
    "uvloop_streams": 0.75,
    "asyncio_sock": 0.75,
    "uvloop_sock": 0.75,
}
TARGETS = tuple(
    Target(peer, limit, of=name)
    for name in ("greenpump", "greenpump_detached")
    for peer, limit in LIMITS.items()
)
TARGET_CASES = {(50, 64), (500, 64)}  # connections, bytes
DEFAULT = ((50, 64), (500, 64), (50, 1024), (50, 100 << 10))
FULL_CONNECTIONS = (1, 50, 500, 5000)
FULL_SIZES = (64, 1024, 100 << 10)


class Echo(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--connections", type=positives, help=f"None: with {DEFAULT}")
        parser.add_argument("--size", type=positives, help="bytes; None: see --connections")
        parser.add_argument(
            "--full", action="store_true", help=f"all of {FULL_CONNECTIONS} with all {FULL_SIZES}"
        )
        parser.add_argument("--seconds", type=float, default=2.0, help="measured, for each sample")
        parser.add_argument(
            "--messages", type=positive, default=0, help="measure this many, if done sooner"
        )
        parser.add_argument("--warmup", type=float, default=0.5, help="seconds, not measured")

    def cases(self, args: Namespace) -> Sequence[Case]:
        return [
            Case(
                label=f"{connections:,} connection{'s' * (connections > 1)}, {named(size)}",
                roles=("echo",),
                params={
                    "connections": connections,
                    "size": size,
                    "warmup": args.warmup,
                    "seconds": args.seconds,
                    "messages": args.messages,
                },
                targets=TARGETS if (connections, size) in TARGET_CASES else (),
            )
            for connections, size in combinations(args)
        ]

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        with serving(peer, bench) as server:
            report = Load(
                port=server.port,
                connections=int(case.params["connections"]),
                size=int(case.params["size"]),
                warmup=float(case.params["warmup"]),
                seconds=float(case.params["seconds"]),
                messages=int(case.params["messages"]),
                pids=[server.pid],
                cpu=bench.load_cpu,
            ).run()
        return per_message(report)


def combinations(args: Namespace) -> Sequence[tuple[int, int]]:
    """Connections and sizes: those asked for, or the default ones."""
    if not (args.full or args.connections or args.size):
        return DEFAULT
    all_connections = args.connections or (FULL_CONNECTIONS if args.full else (50, 500))
    return [
        (connections, size)
        for size in args.size or (FULL_SIZES if args.full else (64,))
        for connections in all_connections
    ]


def named(size: int) -> str:
    return f"{size} B" if size % 1024 else f"{size >> 10} KiB"


WORKLOAD = Echo(
    name="echo",
    about="TCP echo on loopback, closed loop, every byte verified",
    metrics=(
        Metric("cpu_us", "CPU µs/message"),
        Metric("throughput", "messages/s", 0),
        Metric("p50_us", "p50 µs", 0),
        Metric("p99_us", "p99 µs", 0),
        Metric("busy", "core busy %", 0),
    ),
    compared_to=("greenpump", "c"),
    notes=(
        "CPU µs/message: the server process's own clock (user and kernel, all threads) over the "
        "measured interval, for each message echoed in it. Interrupt work is charged to whoever "
        "was running, and on loopback the sender also runs the receiver's half of TCP; that is "
        "alike for every peer.",
        "Closed loop: a connection sends when its last echo is complete, so latency is mostly "
        "queueing: connections ÷ throughput.",
        "core busy %: the server's CPU time over the interval's length. Well below 100 the load "
        "generator (or another process on that core) was the limit: trust CPU µs, not messages/s.",
        "Everyone receives at most 16 KiB at a time, with TCP_NODELAY; Protocol transports use "
        "their own 256 KiB buffers.",
    ),
)
