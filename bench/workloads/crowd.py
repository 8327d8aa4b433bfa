"""A channel of 100,000 subscribers, over processes that have one Redis in common."""

from __future__ import annotations

import http.client
import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from statistics import median
from tempfile import TemporaryDirectory

from bench import spread
from bench.accounting import family, rss_bytes
from bench.fanout import Fanout
from bench.load import Held, held, opening
from bench.options import positive, positives
from bench.outcome import FailedError
from bench.registry import Peer, peers
from bench.server import Server, serving
from bench.workload import Bench, Case, Metric, Sample, Workload

PRIMING = 100  # subscribers for each process
SETTLE = 1.0
PATIENCE = 60.0
ANYWHERE = Bench(None, None)  # more processes than cores: the kernel places them
CHANNEL = "room"  # the one that the load generator's subscribers join


class Crowd(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--count", type=positives, default=(100_000,), help="subscribers")
        parser.add_argument("--processes", type=positive, default=8, help="of the server")
        parser.add_argument(
            "--transport", choices=("websocket", "events"), default="websocket", help="to them"
        )
        parser.add_argument(
            "--broadcasts", type=positive, default=5, help="a sample's figures are their medians"
        )

    def cases(self, args: Namespace) -> Sequence[Case]:
        if max(args.count) > args.processes * spread.IN_A_PROCESS:
            raise SystemExit(
                f"{max(args.count):,} subscribers need more --processes than {args.processes}: "
                f"{spread.IN_A_PROCESS:,} each"
            )
        return [
            Case(
                f"{count:,} subscribers by {args.transport} over {args.processes} processes",
                ("crowd",),
                {
                    "count": count,
                    "processes": args.processes,
                    "transport": args.transport,
                    "broadcasts": args.broadcasts,
                },
            )
            for count in args.count
        ]

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        count, processes = int(case.params["count"]), int(case.params["processes"])
        transport = str(case.params["transport"])
        with chat_over(processes, peer) as server:
            # Code and pools that the first ones bring in are no cost of the 10,000th.
            with held(Fanout(server.port, PRIMING * processes, transport=transport)) as first:
                first.ask()
            time.sleep(SETTLE)
            before = resident(server)
            crowd = [
                Fanout(server.port, share, publishers=0, transport=transport, patience=PATIENCE)
                for share in spread.shares(count)
            ]
            with ExitStack() as stack:
                parts = [stack.enter_context(opening(part)) for part in crowd]
                for part in parts:
                    part.report()
                time.sleep(SETTLE)
                grown = resident(server) - before
                samples = [
                    broadcast(server.port, crowd[0].text(number), parts)
                    for number in range(1, int(case.params["broadcasts"]) + 1)
                ]
        medians = {key: median(sample[key] for sample in samples) for key in samples[0]}
        return medians | {"bytes": grown / count}


@contextmanager
def chat_over(processes: int, peer: Peer) -> Iterator[Server]:
    """The peer's chat in so many processes, with a Redis of their own."""
    (redis,) = peers(("store",))
    with (
        TemporaryDirectory(prefix="bench-") as folder,
        serving(redis, ANYWHERE, {"folder": folder}) as store,
    ):
        url = f"redis://127.0.0.1:{store.port}/0"
        with serving(peer, ANYWHERE, {"processes": processes, "store": url}) as server:
            yield server


def resident(server: Server) -> int:
    """Of all processes of the server; not of Redis, which doesn't know its subscribers."""
    return sum(rss_bytes(pid) for pid in family(server.pid))


def broadcast(port: int, text: str, parts: Sequence[Held]) -> Sample:
    """One message for all, each of whom has to have it; how long after its request that was."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as publisher:
        publisher.connect()
        body = json.dumps({"channel": CHANNEL, "sname": "ann", "msg": text})
        for part in parts:
            part.tell()
        start = time.monotonic_ns()
        publisher.request("POST", "/publish", body, {"Content-Type": "application/json"})
        response = publisher.getresponse()
        answer = response.read()
        acknowledged = time.monotonic_ns()
    if response.status != http.client.OK:
        raise FailedError(f"publish was answered with {response.status}: {answer[:200]!r}")
    came = []
    for part in parts:
        part.report()
        came += part.arrivals()
    came.sort()
    instants = {
        "last_ms": came[-1],
        "p99_ms": came[99 * len(came) // 100],
        "p50_ms": came[len(came) // 2],
        "ack_ms": acknowledged,
    }
    return {key: (instant - start) / 1e6 for key, instant in instants.items()}


WORKLOAD = Crowd(
    name="crowd",
    about="a message to 100,000 subscribers of one channel, over processes with one Redis",
    metrics=(
        Metric("last_ms", "ms to the last", 0),
        Metric("p99_ms", "p99 ms", 0),
        Metric("p50_ms", "p50 ms", 0),
        Metric("ack_ms", "ms to the answer", 1),
        Metric("bytes", "bytes each", 0),
    ),
    compared_to=(),
    notes=(
        "All of it is on this machine, and shares its cores: the server's processes (each has the "
        "share of the subscribers that the kernel gives it), Redis, and the load generators, at "
        "most 18,000 subscribers each.",
        "An HTTP client publishes one message, when nothing else is under way. A subscriber's "
        "latency is from just before that request was sent until its load generator, which may be "
        "busy with others, has read the item; p50, p99 and last are over all subscribers. Each of "
        "them has got just this message, with its text and number, or the peer has failed.",
        "Each sample has the medians of some messages, one after another.",
        "ms to the answer: until the publisher knows that the message is kept, in Redis and on the "
        "disk.",
        "Bytes are the growth of the resident sets of all the server's processes (smaps_rollup), "
        "after the first hundred subscribers for each have come and gone.",
    ),
)
