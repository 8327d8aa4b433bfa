"""What it costs to pass a message, take a free lock, wait for the first of four, wake a crowd."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from bench.options import positive
from bench.process import PeerProcess
from bench.registry import Peer
from bench.workload import Bench, Case, Metric, Sample, Target, Workload

PATIENCE = 120.0


class Sync(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--messages", type=positive, default=100_000)
        parser.add_argument("--locks", type=positive, default=500_000)
        parser.add_argument("--selects", type=positive, default=50_000)
        parser.add_argument("--waiters", type=positive, default=100_000)

    def cases(self, args: Namespace) -> Sequence[Case]:
        def case(label: str, role: str, what: str, count: int, *targets: Target) -> Case:
            return Case(f"{label} (× {count:,})", (role,), {"what": what, "count": count}, targets)

        return [
            case(
                "there and back over two channels without a buffer",
                "channel",
                "round_trip",
                args.messages // 2,
                Target("gevent", 0.5),
            ),
            case(
                "a message through a buffer of 100",
                "channel",
                "buffered",
                args.messages,
                Target("asyncio", 0.5),
            ),
            case(
                "`with` a free lock",
                "lock",
                "with_lock",
                args.locks,
                Target("threading", 1.5),
            ),
            case(
                "acquire and release a free lock",
                "lock",
                "acquire_release",
                args.locks,
                Target("threading", 1.5),
            ),
            case(
                "wait for the first of four channels",
                "select",
                "parked",
                args.selects,
                Target("", at_most=4.0),
            ),
            case(
                "take the only ready one of four channels",
                "select",
                "ready",
                args.selects,
                Target("", at_most=4.0),
            ),
            case("wake all who wait for one event", "event", "wake_all", args.waiters),
        ]

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        with PeerProcess(peer, case.params, bench.server_cpu) as process:
            return process.result(PATIENCE)


WORKLOAD = Sync(
    name="sync",
    about="channels, locks, select, events",
    metrics=(Metric("cpu_us", "CPU µs each", 3), Metric("wall_us", "wall µs each", 3)),
    compared_to=("greenpump", "gevent", "asyncio", "threading"),
    notes=(
        "Each figure is of the second time the same work is done in a process.",
        "asyncio has no channel without a buffer: its round trip goes over two Queue(1). Its wait "
        "for the first of four is asyncio.wait on four Queue.get, of which three are cancelled; "
        "gevent's is gevent.wait on four greenlets that get, of which three are killed.",
        "Waking a crowd counts the crowd's running, too: from set() until the last has gone on.",
    ),
)
