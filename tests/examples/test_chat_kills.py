"""SIGKILL at any moment: what was acknowledged is there, once, for who comes back.

Writers publish with ids of their own and say each message again until it is acknowledged. Readers
of every transport read on from their last id whenever they are cut off. Meanwhile servers or Redis
are killed and started again. In the end every reader must have seen each message once, in order,
without a gap.
"""

from __future__ import annotations

import json
import os
import random
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

import greenpump as gp
from tests.examples.chat_client import Client, Events, Talker
from tests.examples.chat_server import ROOT
from tests.examples.redis_server import RedisServer

pytestmark = pytest.mark.timeout(60)

WRITERS = 4


class Zygote:
    """See ``chat_zygote.py``."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.examples.chat_zygote"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._pids: list[int] = []

    def start(self, *arguments: str) -> tuple[int, int]:
        """A new chat: its pid and port."""
        self._in.write(json.dumps(arguments) + "\n")
        self._in.flush()
        pid = int(self._out.readline())
        said = self._out.readline()
        found = re.search(r"127\.0\.0\.1:(\d+) ", said)
        assert found is not None, said
        self._pids.append(pid)
        return pid, int(found[1])

    def kill(self, pid: int) -> None:
        self._pids.remove(pid)
        process = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        select.select([process], [], [])  # its port is free when it is dead, and not before
        os.close(process)

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *exc: object) -> None:
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)
        self._in.close()
        self._out.close()
        self._process.wait()


class Server:
    """A chat that is killed and started again, on one port."""

    def __init__(self, zygote: Zygote, store: str) -> None:
        self._zygote = zygote
        self._options = ["--store", store, "--rate", "1e9", "--history", "100000"]
        self.port = 0
        self.start()

    def start(self) -> None:
        self._pid, self.port = self._zygote.start("--port", str(self.port), *self._options)

    def kill(self) -> None:
        self._zygote.kill(self._pid)


class Run:
    """Writers and readers of some servers, and what became of what they wrote."""

    def __init__(self, *servers: Server) -> None:
        self.servers = servers
        self.acknowledged: set[str] = set()
        self.read: dict[str, list[dict[str, Any]]] = {}
        self.last = gp.Event()
        self._writing = True
        self._writers = [gp.spawn(self._write, number) for number in range(WRITERS)]
        self._readers = [
            gp.spawn(self._read, name, way)
            for name, way in {"poll": polled, "events": streamed, "websocket": talked}.items()
        ]

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exc: object) -> None:
        for task in (*self._writers, *self._readers):
            task.cancel()
            task.join()

    def finish(self) -> None:
        """Let the writers come to an end, and the readers read all of it."""
        self._writing = False
        for writer in self._writers:
            writer.result(timeout=60)
        self._writing = True
        self._say("end", "end")
        for reader in self._readers:
            reader.result(timeout=60)

    def check(self) -> None:
        assert len(self.acknowledged) > WRITERS
        for name, items in self.read.items():
            kinds = {item["type"] for item in items}
            assert kinds == {"MSG"}, (name, [item for item in items if item["type"] != "MSG"][:3])
            assert len({item["epoch"] for item in items}) == 1
            assert [item["seqid"] for item in items] == list(range(len(items))), name
            cids = [item["cid"] for item in items]
            assert len(set(cids)) == len(cids), f"{name}: repeated"
            assert self.acknowledged - set(cids) == set(), f"{name}: lost"

    def _write(self, number: int) -> None:
        said = 0
        while self._writing:
            self._say(f"w{number}-{said}", f"{number}: {said}")
            said += 1

    def _say(self, cid: str, msg: str) -> None:
        body = {"channel": "room", "sname": "ann", "msg": msg, "cid": cid}
        while True:
            with suppress(OSError, AssertionError), self._connected() as client:
                while self._writing:
                    response = client.post("/publish", body)
                    if response.status == 200:
                        self.acknowledged.add(cid)
                        return
                    assert response.status == 503
                    gp.sleep(0.01)
                return
            gp.sleep(0.005)

    def _read(self, name: str, way: Way) -> None:
        items = self.read[name] = []
        while not items or items[-1]["cid"] != "end":
            with suppress(OSError, AssertionError), self._connected() as client:
                # From the beginning: the epoch of a channel is known when it has been asked for.
                since = items[-1]["id"] if items else ""
                for item in way(client, since):
                    if item["type"] in ("MSG", "GAP"):
                        items.append(item)
                        if item.get("cid") == "end":
                            return
            gp.sleep(0.005)

    @contextmanager
    def _connected(self) -> Iterator[Client]:
        port = random.choice(self.servers).port
        with gp.connect(("127.0.0.1", port), timeout=10) as conn:
            conn.settimeout(30)
            yield Client(conn)


Way = Callable[[Client, str], Iterator[dict[str, Any]]]


def polled(client: Client, since: str) -> Iterator[dict[str, Any]]:
    fields: dict[str, object] = {"channel": "room", "sname": "ann", "seqid": 0}
    if since:
        fields["since"] = since
    while True:
        response = client.get(f"/subscribe?{urlencode(fields)}")
        assert response.status == 200
        yield from response.json
        fields["since"] = response.json[-1]["id"]


def start_of(client: Client) -> str:
    response = client.get("/presence?channel=room")
    assert response.status == 200
    return f"{response.json[0]['epoch']}:-1"


def streamed(client: Client, since: str) -> Iterator[dict[str, Any]]:
    since = since or start_of(client)
    events = Events(client, "/stream?channel=room", f"Last-Event-ID: {since}\r\n")
    while True:
        yield events.item()


def talked(client: Client, since: str) -> Iterator[dict[str, Any]]:
    since = since or start_of(client)
    talker = Talker(client, f"/socket?channel=room&since={since}")
    while True:
        yield talker.item()


def test_a_hundred_kills_lose_and_repeat_nothing(tmp_path: Path) -> None:
    rng = random.Random(1)
    with Zygote() as zygote:
        server = Server(zygote, f"sqlite:{tmp_path}/chat.db")
        with Run(server) as run:
            for _ in range(100):
                gp.sleep(rng.uniform(0.0, 0.08))
                server.kill()
                server.start()
            run.finish()
            run.check()


def test_kills_of_either_of_two_nodes_lose_and_repeat_nothing(tmp_path: Path) -> None:
    rng = random.Random(2)
    with RedisServer(tmp_path) as redis, Zygote() as zygote:
        servers = [Server(zygote, redis.url) for _ in range(2)]
        with Run(*servers) as run:
            for _ in range(40):
                gp.sleep(rng.uniform(0.0, 0.08))
                server = rng.choice(servers)
                server.kill()
                server.start()
            run.finish()
            run.check()


def test_kills_of_redis_lose_and_repeat_nothing(tmp_path: Path) -> None:
    rng = random.Random(3)
    with RedisServer(tmp_path) as redis, Zygote() as zygote:
        servers = [Server(zygote, redis.url) for _ in range(2)]
        with Run(*servers) as run:
            for _ in range(10):
                gp.sleep(rng.uniform(0.0, 0.3))
                redis.kill()
                gp.sleep(rng.uniform(0.0, 0.1))
                redis.start()
            run.finish()
            run.check()
