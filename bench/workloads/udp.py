"""UDP echo on loopback: one socket serves all, every datagram verified by the load generator."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from bench.load import Load, per_message
from bench.options import positive, positives
from bench.registry import Peer
from bench.server import serving
from bench.workload import Bench, Case, Metric, Sample, Workload


class Udp(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--clients", type=positives, default=(50,), help="sockets, each with a datagram out"
        )
        parser.add_argument("--size", type=positives, default=(64, 1024), help="bytes")
        parser.add_argument("--seconds", type=float, default=2.0, help="measured, for each sample")
        parser.add_argument(
            "--messages", type=positive, default=0, help="measure this many, if done sooner"
        )
        parser.add_argument("--warmup", type=float, default=0.5, help="seconds, not measured")

    def cases(self, args: Namespace) -> Sequence[Case]:
        return [
            Case(
                label=f"{clients} clients, {size:,} B",
                roles=("udp",),
                params={
                    "clients": clients,
                    "size": size,
                    "warmup": args.warmup,
                    "seconds": args.seconds,
                    "messages": args.messages,
                },
            )
            for size in args.size
            for clients in args.clients
        ]

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        with serving(peer, bench, udp=True) as server:
            report = Load(
                port=server.port,
                connections=int(case.params["clients"]),
                size=int(case.params["size"]),
                warmup=float(case.params["warmup"]),
                seconds=float(case.params["seconds"]),
                messages=int(case.params["messages"]),
                pids=[server.pid],
                cpu=bench.load_cpu,
                udp=True,
            ).run()
        return per_message(report)


WORKLOAD = Udp(
    name="udp",
    about="UDP echo on loopback, closed loop, every datagram verified",
    metrics=(
        Metric("cpu_us", "CPU µs/datagram"),
        Metric("throughput", "datagrams/s", 0),
        Metric("p50_us", "p50 µs", 0),
        Metric("p99_us", "p99 µs", 0),
        Metric("busy", "core busy %", 0),
    ),
    compared_to=("greenpump", "c"),
    notes=(
        "Everyone has one socket and answers a datagram before receiving the next. A datagram "
        "that was lost, on loopback for want of room in the socket's buffer, fails the peer.",
        "c and threading block in recvfrom: no epoll, no other connection could be served.",
    ),
)
