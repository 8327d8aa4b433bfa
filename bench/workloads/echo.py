"""TCP echo on loopback: closed-loop connections, every byte verified by the load generator."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from bench.load import Load, per_message
from bench.options import positive, positives
from bench.registry import Peer
from bench.server import serving
from bench.workload import Bench, Case, Metric, Sample, Target, Workload

TARGETS = (Target("c", 1.5), Target("uvloop_protocol", 1.2), Target("gevent", 0.5))
TARGET_CASES = {(50, 64), (500, 64)}  # connections, bytes


class Echo(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--connections", type=positives, default=(50, 500))
        parser.add_argument("--size", type=positives, default=(64,), help="bytes")
        parser.add_argument("--seconds", type=float, default=2.0, help="measured, for each sample")
        parser.add_argument(
            "--messages", type=positive, default=0, help="measure this many, if done sooner"
        )
        parser.add_argument("--warmup", type=float, default=0.5, help="seconds, not measured")

    def cases(self, args: Namespace) -> Sequence[Case]:
        return [
            Case(
                label=f"{connections} connections, {size} B",
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
            for size in args.size
            for connections in args.connections
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
