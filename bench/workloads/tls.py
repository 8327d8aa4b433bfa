"""TLS echo on loopback: handshakes done before, every byte verified by the load generator."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from bench.certificate import certificate
from bench.load import Load, per_message
from bench.options import positive, positives
from bench.registry import Peer
from bench.server import RECV_SIZE, serving
from bench.workload import Bench, Case, Metric, Sample, Target, Workload

TARGETS = (Target("gevent", at_least=1.3, metric="throughput"),)


class Tls(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--connections", type=positives, default=(50,))
        parser.add_argument("--size", type=positives, default=(64, 100 << 10), help="bytes")
        parser.add_argument(
            "--recv-size", type=positive, default=RECV_SIZE, help="bytes asked of one recv"
        )
        parser.add_argument("--seconds", type=float, default=2.0, help="measured, for each sample")
        parser.add_argument(
            "--messages", type=positive, default=0, help="measure this many, if done sooner"
        )
        parser.add_argument("--warmup", type=float, default=0.5, help="seconds, not measured")

    def cases(self, args: Namespace) -> Sequence[Case]:
        return [
            Case(
                label=f"{connections} connections, {size:,} B",
                roles=("tls",),
                params={
                    "connections": connections,
                    "size": size,
                    "recv_size": args.recv_size,
                    "warmup": args.warmup,
                    "seconds": args.seconds,
                    "messages": args.messages,
                },
                targets=TARGETS,
            )
            for size in args.size
            for connections in args.connections
        ]

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        authority, key = certificate()
        more = {
            "recv_size": case.params["recv_size"],
            "certificate": str(authority),
            "key": str(key),
        }
        with serving(peer, bench, more) as server:
            report = Load(
                port=server.port,
                connections=int(case.params["connections"]),
                size=int(case.params["size"]),
                warmup=float(case.params["warmup"]),
                seconds=float(case.params["seconds"]),
                messages=int(case.params["messages"]),
                pids=[server.pid],
                cpu=bench.load_cpu,
                certificate=authority,
            ).run()
        return per_message(report)


WORKLOAD = Tls(
    name="tls",
    about="TLS echo on loopback, closed loop, every byte verified",
    metrics=(
        Metric("cpu_us", "CPU µs/message"),
        Metric("throughput", "messages/s", 0, compared=True),
        Metric("p50_us", "p50 µs", 0),
        Metric("p99_us", "p99 µs", 0),
        Metric("busy", "core busy %", 0),
    ),
    compared_to=("greenpump", "gevent"),
    notes=(
        "TLS 1.3 with TLS_AES_256_GCM_SHA384 for everyone, the only suite that the load generator "
        "(C, OpenSSL, on a core of its own) offers. The handshakes come before the measurement.",
        "Everyone receives at most 16 KiB at a time, a record's most (--recv-size asks for more, "
        "which ssl's own sockets never give); Protocol transports use their own buffers. Go's "
        "crypto is its own, everyone else's is OpenSSL's.",
        "core busy %: well below 100 the load generator was the limit: trust CPU µs, not "
        "messages/s.",
    ),
)
