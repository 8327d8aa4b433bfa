"""greenpump: examples/chat as people run it, in several processes that have a Redis in common."""

from __future__ import annotations

import sys

import redis  # noqa: F401 - the chat itself would only miss it when the first client has come

from examples.chat import __main__ as chat


def run(port: int, recv_size: int, processes: int, store: str) -> None:
    options = {
        "port": port,
        "processes": processes,
        "store": store,
        "rate": 1e9,
        "burst": 10**9,
        "poll-seconds": 3600,
    }
    sys.argv[1:] = [f"--{name}={value}" for name, value in options.items()]
    sys.exit(chat.main())
