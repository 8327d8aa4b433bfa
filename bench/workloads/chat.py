"""A chat's fan-out: what is said in a channel goes to a thousand WebSockets."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from bench.fanout import Fanout
from bench.load import per_message
from bench.options import positive, positives
from bench.registry import Peer
from bench.server import serving
from bench.workload import Bench, Case, Metric, Sample, Target, Workload

TARGETS = (
    Target("gevent", at_least=2, metric="throughput"),
    Target("websockets_uvloop", at_least=1, metric="throughput"),
)


class Chat(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--subscribers", type=positives, default=(1000,))
        parser.add_argument(
            "--publishers", type=positives, default=(1, 10), help="how many talk at once"
        )
        parser.add_argument(
            "--window",
            type=positives,
            default=(16,),
            help="and how many messages one who talks ahead has under way; a case each",
        )
        parser.add_argument("--size", type=positive, default=64, help="characters of a message")
        parser.add_argument("--seconds", type=float, default=2.0, help="measured, for each sample")
        parser.add_argument(
            "--messages", type=positive, default=0, help="measure this many, if done sooner"
        )
        parser.add_argument("--warmup", type=float, default=0.5, help="seconds, not measured")

    def cases(self, args: Namespace) -> Sequence[Case]:
        talkers = [(f"{count} talking", count, 1) for count in args.publishers]
        talkers += [(f"1 talking ahead ({ahead} under way)", 1, ahead) for ahead in args.window]
        return [
            Case(
                label=f"{talking}, {subscribers:,} subscribers, {args.size} B",
                roles=("chat",),
                params={
                    "subscribers": subscribers,
                    "publishers": publishers,
                    "window": window,
                    "size": args.size,
                    "warmup": args.warmup,
                    "seconds": args.seconds,
                    "messages": args.messages,
                },
                targets=TARGETS,
            )
            for subscribers in args.subscribers
            for talking, publishers, window in talkers
        ]

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        with serving(peer, bench) as server:
            report = Fanout(
                port=server.port,
                connections=int(case.params["subscribers"]),
                publishers=int(case.params["publishers"]),
                window=int(case.params["window"]),
                size=int(case.params["size"]),
                warmup=float(case.params["warmup"]),
                seconds=float(case.params["seconds"]),
                messages=int(case.params["messages"]),
                pids=[server.pid],
                cpu=bench.load_cpu,
            ).run()
        return per_message(report)


WORKLOAD = Chat(
    name="chat",
    about="a chat's fan-out by WebSocket, every message to every subscriber verified",
    metrics=(
        Metric("cpu_us", "CPU µs/delivery"),
        Metric("throughput", "deliveries/s", 0, compared=True),
        Metric("p50_us", "p50 µs", 0),
        Metric("p99_us", "p99 µs", 0),
        Metric("busy", "core busy %", 0),
        Metric("load_busy", "load busy %", 0),
    ),
    compared_to=("greenpump", "gevent", "websockets_uvloop"),
    notes=(
        "One process each, the same protocol: subscribers join a channel by WebSocket, and get "
        "each message as JSON with its `epoch:seq`; a client that says something gets an answer; "
        "1,000 messages of history. Who talks says the next when all subscribers have the last; "
        "who talks ahead has some messages under way at once, over one connection, and says one "
        "more when all have the oldest: a feed rather than a conversation. "
        "The load generator (C, on a core of its own) verifies text and order of every item.",
        "A delivery is one message at one subscriber; its latency begins when it was published.",
        "With one talking, every delivery is a system call of the server's, which on loopback "
        "runs the receiver's half of TCP, too: the most of CPU µs/delivery is the kernel's, and "
        "alike for all. With ten, or one who talks ahead, a server that is behind may send what "
        "has come as one.",
        "greenpump is examples/chat as it is: other transports, presence, limits and the cutting "
        "off of slow clients included; the others' chats have none of these.",
        "load busy %: near 100 the generator was the limit: trust CPU µs, not deliveries/s.",
    ),
)
