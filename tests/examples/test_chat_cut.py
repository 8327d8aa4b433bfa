"""The cable is cut: packets get lost, and nobody is told. Who comes back has missed nothing.

The chat is on one host and its clients on another (``network.py``).
"""

from __future__ import annotations

import json
import os
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

import greenpump as gp
from tests.examples.chat_client import Client, Events, Talker
from tests.examples.chat_server import ChatServer
from tests.examples.network import ADDRESSES, Network, require_network

PATIENCE = 30.0
"""For what the kernel decides: when it sends again, and when it gives up."""

LISTENING = "0A"  # in /proc/net/tcp

Read = Callable[[int], list[dict[str, Any]]]


class World:
    """A network, a chat on one side, and clients on the other."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._clients = ExitStack()

    def __enter__(self) -> World:
        host = ADDRESSES["server"]
        self._server = ChatServer("--host", host, "--poll-seconds", "1", "--rate", "1e9")
        with self.network.on("server"):
            self._server.start()
        self._url = f"http://{host}:{self._server.port}"
        return self

    def __exit__(self, *exc: object) -> None:
        self._clients.close()
        self._server.kill()

    def connect(self, timeout: float | None = None) -> Client:
        with self.network.on("client"):
            conn = gp.connect((ADDRESSES["server"], self._server.port), timeout=timeout)
        return Client(self._clients.enter_context(conn))

    def say(self, *msgs: str) -> None:
        """Publish, on the server's side of the cable."""
        for msg in msgs:
            self._get("/publish", channel="room", sname="bob", msg=msg)

    def position(self) -> str:
        """Where the channel is."""
        [hello] = self._get("/presence", channel="room")
        return str(hello["id"])

    def stats(self) -> dict[str, int]:
        found: dict[str, int] = self._get("/stats")
        return found

    def connections(self) -> int:
        """How many the server's process holds, whatever it says itself."""
        process = Path(f"/proc/{self._server.pid()}")
        fds = set()
        for fd in (process / "fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                fds.add(os.readlink(fd))
        rows = [line.split() for line in (process / "net/tcp").read_text().splitlines()[1:]]
        return sum(row[3] != LISTENING and f"socket:[{row[9]}]" in fds for row in rows)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.stats()
            gp.sleep(0.02)

    def _get(self, path: str, **fields: str) -> Any:
        with self.network.on("server"):
            url = f"{self._url}{path}?{urllib.parse.urlencode(fields)}"
            with urllib.request.urlopen(url, timeout=PATIENCE) as response:
                return json.loads(response.read())


@pytest.fixture(scope="module")
def _network(require: Callable[[str, object, str], None]) -> None:
    require_network(require)


@pytest.fixture
def world(_network: None) -> Iterator[World]:
    with Network() as network, World(network) as world:
        yield world


Way = Callable[[Client, str], Read]


def by_poll(client: Client, since: str) -> Read:
    def read(count: int) -> list[dict[str, Any]]:
        nonlocal since
        items: list[dict[str, Any]] = []
        while len(items) < count:
            query = urllib.parse.urlencode({"channel": "room", "sname": "ann", "since": since})
            came = client.get(f"/subscribe?{query}").json
            items += [item for item in came if item["type"] != "NOOP"]
            since = came[-1]["id"]
        return items

    return read


def by_events(client: Client, since: str) -> Read:
    events = Events(client, "/stream?channel=room", f"Last-Event-ID: {since}\r\n")
    return lambda count: [events.item() for _ in range(count)]


def by_websocket(client: Client, since: str) -> Read:
    talker = Talker(client, f"/socket?channel=room&since={since}")
    assert talker.item()["type"] == "HELLO"
    return lambda count: [talker.item() for _ in range(count)]


each_way = pytest.mark.parametrize("way", [by_poll, by_events, by_websocket])


def said(items: list[dict[str, Any]]) -> list[str]:
    return [item["msg"] if item["type"] == "MSG" else item["type"] for item in items]


@each_way
def test_who_stays_through_a_cut_goes_on(world: World, way: Way) -> None:
    read = way(world.connect(), world.position())
    world.say("0", "1")
    assert said(read(2)) == ["0", "1"]
    reading = gp.spawn(read, 2)
    world.until(lambda: world.stats()["subscribers"] == 1)
    world.network.cut()
    world.say("2", "3")
    with pytest.raises(TimeoutError):
        reading.result(timeout=0.3)
    world.network.mend()
    assert said(reading.result(timeout=PATIENCE)) == ["2", "3"]
    world.say("4")
    assert said(read(1)) == ["4"]


@each_way
def test_who_gives_up_and_comes_back_has_missed_nothing(world: World, way: Way) -> None:
    client = world.connect()
    read = way(client, world.position())
    world.say("0", "1")
    items = read(2)
    world.network.cut()
    world.say("2", "3")
    client.conn.close()
    with pytest.raises(TimeoutError):
        world.connect(timeout=0.3)
    world.network.mend()
    read = way(world.connect(PATIENCE), items[-1]["id"])
    world.say("4")
    items += read(3)
    assert said(items) == ["0", "1", "2", "3", "4"]
    assert [item["seqid"] for item in items] == list(range(5))


@each_way
@pytest.mark.parametrize("talking", [True, False], ids=["something is said", "silence"])
def test_who_is_lost_for_good_is_forgotten(world: World, way: Way, talking: bool) -> None:
    read = way(world.connect(), world.position())
    reading = gp.spawn(read, 1)
    world.until(lambda: world.stats()["subscribers"] == 1)
    world.network.cut()
    if talking:
        world.say("0")
    world.until(lambda: world.connections() == 0)
    stats = world.stats()
    assert (stats["subscribers"], stats["resting"]) == (0, 0)
    reading.cancel()
    reading.join()
