"""A storm of short connections: connect, one request, its answer, close, and again."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from bench.load import Load, per_message
from bench.options import positive, positives
from bench.registry import Peer
from bench.server import serving
from bench.workload import Bench, Case, Metric, Sample, Target, Workload

TARGETS = (Target("gevent", at_least=2.0, metric="throughput"), Target("gevent", at_most=0.5))


class Accept(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--connections", type=positives, default=(100,), help="at once")
        parser.add_argument("--seconds", type=float, default=2.0, help="measured, for each sample")
        parser.add_argument(
            "--messages", type=positive, default=0, help="measure this many, if done sooner"
        )
        parser.add_argument("--warmup", type=float, default=0.5, help="seconds, not measured")

    def cases(self, args: Namespace) -> Sequence[Case]:
        return [
            Case(
                label=f"{connections} at once, 64 B there and back over each",
                roles=("echo",),
                params={
                    "connections": connections,
                    "warmup": args.warmup,
                    "seconds": args.seconds,
                    "messages": args.messages,
                },
                targets=TARGETS,
            )
            for connections in args.connections
        ]

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        with serving(peer, bench) as server:
            report = Load(
                port=server.port,
                connections=int(case.params["connections"]),
                warmup=float(case.params["warmup"]),
                seconds=float(case.params["seconds"]),
                messages=int(case.params["messages"]),
                pids=[server.pid],
                cpu=bench.load_cpu,
                storm=True,
            ).run()
        return per_message(report)


WORKLOAD = Accept(
    name="accept",
    about="a storm of connections of one request each, every answer verified",
    metrics=(
        Metric("cpu_us", "CPU µs/connection"),
        Metric("throughput", "connections/s", 0, compared=True),
        Metric("p50_us", "p50 µs", 0),
        Metric("p99_us", "p99 µs", 0),
        Metric("busy", "core busy %", 0),
    ),
    compared_to=("greenpump", "gevent", "c"),
    notes=(
        "The peers are echo's: they accept, receive, send, receive the end of the stream and "
        "close. The client closes first; its connections come from 200 addresses of loopback, so "
        "that none waits for a port in TIME_WAIT.",
        "Latency is from before the connect to the last byte of the answer. The kernel's work for "
        "a handshake is done by whoever's packet triggers it, mostly by the load's core.",
        "core busy % well below 100: the load generator was the limit, so the peer can do more "
        "connections/s than stand here, and CPU µs tell how many.",
    ),
)
