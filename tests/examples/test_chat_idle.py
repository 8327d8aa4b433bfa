"""What an idle subscriber costs, measured from outside: resident memory of the server's process."""

from __future__ import annotations

import json
import socket
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.examples.chat_client import UPGRADE
from tests.examples.chat_server import ChatServer

COUNT = 2000
LIMIT = 1536 if getattr(sys, "_is_gil_enabled", lambda: True)() else 2048
"""Bytes of RSS for each. CComet, in C++, took 800; icomet, in C++, 2,700. Without the GIL every
object has a lock and two counts of references."""

REQUESTS = {
    "poll": "GET /subscribe?channel=room&sname=ann&seqid=0 HTTP/1.1\r\nHost: h\r\n\r\n",
    "events": "GET /stream?channel=room HTTP/1.1\r\nHost: h\r\n\r\n",
    "websocket": f"GET /socket?channel=room HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n",
    "named": f"GET /socket?channel=room&sname=%d HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n",
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_an_idle_subscriber_costs_little(kind: str) -> None:
    with ChatServer("--poll-seconds", "300") as server, ExitStack() as clients:
        joined = 0

        def join(count: int) -> int:
            """So many more of them; the server's memory then, in bytes."""
            nonlocal joined
            for _ in range(count):
                client = clients.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                request = REQUESTS[kind]
                client.sendall((request % joined if "%d" in request else request).encode())
                joined += 1
            deadline = time.monotonic() + 30
            while subscribers(server) < joined:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            return resident(server)

        before = join(200)  # with what the first ones bring along
        each = (join(COUNT) - before) / COUNT
        print(f"{kind}: {each:.0f} bytes")
        assert each < LIMIT


def subscribers(server: ChatServer) -> int:
    with urllib.request.urlopen(f"{server.url}/stats", timeout=20) as response:
        count: int = json.loads(response.read())["subscribers"]
        return count


def resident(server: ChatServer) -> int:
    pages = int(Path(f"/proc/{server.pid()}/statm").read_text().split()[1])
    return pages * 4096
