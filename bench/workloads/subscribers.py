"""What a chat's subscriber costs in memory while nothing is said."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from bench.accounting import rss_bytes
from bench.fanout import Fanout
from bench.load import held
from bench.options import positives
from bench.registry import Peer
from bench.server import serving
from bench.spread import IN_A_PROCESS
from bench.workload import Bench, Case, Metric, Sample, Target, Workload

PRIMING = 500
SETTLE = 1.0
TARGETS = (Target("", at_most=1500),)
TRANSPORTS = {
    "websocket": ("a WebSocket", ("chat",)),
    "events": ("server-sent events", ("comet",)),
    "poll": ("a long poll", ("comet",)),
}


class Subscribers(Workload):
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--count", type=positives, default=(IN_A_PROCESS,))

    def cases(self, args: Namespace) -> Sequence[Case]:
        return [
            Case(
                f"{label} (of {count:,})",
                roles,
                {"count": count, "transport": transport},
                TARGETS if count >= IN_A_PROCESS else (),
            )
            for count in args.count
            for transport, (label, roles) in TRANSPORTS.items()
        ]

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        count, transport = int(case.params["count"]), str(case.params["transport"])
        with serving(peer, bench) as server:
            # Code and pools that the first ones bring in are no cost of the 10,000th.
            with held(Fanout(server.port, PRIMING, cpu=bench.load_cpu, transport=transport)):
                pass
            time.sleep(SETTLE)
            before = rss_bytes(server.pid)
            with held(Fanout(server.port, count, cpu=bench.load_cpu, transport=transport)) as all:
                time.sleep(SETTLE)
                grown = rss_bytes(server.pid) - before
                start = time.monotonic()
                all.ask()
                last = time.monotonic() - start
        return {"bytes": grown / count, "last_ms": last * 1e3}


WORKLOAD = Subscribers(
    name="subscribers",
    about="resident memory of a chat's subscribers that only wait",
    metrics=(Metric("bytes", "bytes each", 0), Metric("last_ms", "ms to the last", 0)),
    compared_to=("greenpump", "gevent"),
    notes=(
        "Growth of the server's resident set (smaps_rollup), divided by the number of subscribers "
        "of one channel. After it, one message is published, and every subscriber gets it, or the "
        "peer has failed: so long it took to the last.",
        "User space only: the kernel's socket buffers aren't in any process's resident set.",
        "For comparison, as published: CComet (C++) 800 bytes, icomet (C++) 2,700, Centrifugo "
        "(Go) 30,000 and more.",
    ),
)
