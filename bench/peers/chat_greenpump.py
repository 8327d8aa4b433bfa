"""greenpump: examples/chat as it is, its messages in memory; a subscriber holds no task."""

from __future__ import annotations

import greenpump as gp
from examples.chat.chat import Chat
from examples.chat.limits import Limits
from examples.chat.stores import open_store

UNLIMITED = Limits(rate=1e9, burst=10**9, poll_seconds=3600)


def run(port: int, recv_size: int) -> None:
    with Chat(open_store("memory"), UNLIMITED) as chat:
        gp.serve(chat.handle_conn, ("127.0.0.1", port))
