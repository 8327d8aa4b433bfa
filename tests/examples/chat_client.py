"""A client on the other end of a socket pair: bytes out, responses in, all in one hub."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import Any

from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

import greenpump as gp
from examples.chat.chat import Chat
from examples.chat.stores import Bounds, open_store
from greenpump.testing import wait_all_parked

Handler = Callable[[gp.Socket, Any], object]
Pair = Callable[[], tuple[gp.Socket, gp.Socket]]
"""Makes a connection: the server's end and the client's."""


class Response:
    def __init__(self, parsed: http.client.HTTPResponse, body: bytes) -> None:
        self.status = parsed.status
        self.headers = parsed.headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Sends whatever it is told and parses what comes back with http.client."""

    def __init__(self, conn: gp.Socket) -> None:
        self.conn = conn
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.conn.sendall(data)

    def get(self, target: str, method: str = "GET", headers: str = "") -> Response:
        self.ask(target, method, headers)
        return self.response(method)

    def ask(self, target: str, method: str = "GET", headers: str = "") -> None:
        self.send(f"{method} {target} HTTP/1.1\r\nHost: h\r\n{headers}\r\n".encode())

    def post(self, target: str, value: object, content_type: str = "application/json") -> Response:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        head = f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        self.send(f"POST {target} HTTP/1.1\r\nHost: h\r\n{head}\r\n".encode() + body)
        return self.response()

    def response(self, method: str = "GET") -> Response:
        head = self._until(b"\r\n\r\n")
        parsed = http.client.HTTPResponse(_Readable(head), method=method)  # type: ignore[arg-type]
        parsed.begin()
        body = b""
        if method != "HEAD" and parsed.status not in (101, 204, 304):
            size = int(parsed.headers["Content-Length"])
            while len(self._buffer) < size:
                self._more()
            body, self._buffer = self._buffer[:size], self._buffer[size:]
        parsed.close()
        return Response(parsed, body)

    def ended(self) -> bool:
        """Whether the server closed without a further byte."""
        return not self._buffer and self.conn.recv(1) == b""

    def until(self, end: bytes) -> bytes:
        return self._until(end)

    def some(self) -> bytes:
        """What has come; parks until there is something."""
        if not self._buffer:
            self._more()
        data, self._buffer = self._buffer, b""
        return data

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(end)
        return head + end

    def _more(self) -> None:
        data = self.conn.recv(65536)
        if not data:
            raise ConnectionError(f"the server closed; before that it said {self._buffer!r}")
        self._buffer += data


class _Readable:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self.data)


@contextmanager
def client_of(handler: Handler, pair: Pair = gp.socketpair) -> Iterator[Client]:
    """A client of ``handler``, which must have come to its end when the client has left."""
    theirs, ours = pair()

    def serve() -> None:
        try:
            handler(theirs, None)
        finally:
            if not theirs.detached:
                theirs.close()

    task = gp.spawn(serve)
    try:
        with ours:
            yield Client(ours)
    except BaseException:
        task.cancel()
        task.join()
        raise
    task.result(timeout=60)


@contextmanager
def chatting(chat: Chat, count: int = 1, pair: Pair = gp.socketpair) -> Iterator[list[Client]]:
    """Clients of one chat; when all have left it has forgotten them all."""
    with ExitStack() as clients:
        yield [clients.enter_context(client_of(chat.handle_conn, pair)) for _ in range(count)]
    wait_all_parked()
    assert len(chat.node.wheel) == 0
    assert waiting(chat) == 0


def waiting(chat: Chat) -> int:
    """How many subscriptions there are."""
    assert chat.node.counters.subscribers == sum(
        len(channel.subscribers) for channel in chat.node.channels.values()
    )
    return chat.node.counters.subscribers


@contextmanager
def opened(url: str = "memory", *, bounds: Bounds | None = None, **options: Any) -> Iterator[Chat]:
    """A chat, and its end."""
    with Chat(open_store(url, bounds or Bounds()), **options) as chat:
        yield chat


class Talker:
    """The client's end of a WebSocket, by wsproto."""

    def __init__(self, client: Client, target: str, headers: str = "") -> None:
        self.client = client
        self.closed: tuple[int, str | None] | None = None
        """The code and reason that the server closed with."""
        client.ask(target, headers=UPGRADE + headers)
        self.opening = client.response()
        self._ws = Connection(ConnectionType.CLIENT)
        self._items: list[dict[str, Any]] = []
        self._text = ""
        self._pongs: list[bytes] = []

    def say(self, **content: object) -> None:
        self.client.send(self._ws.send(TextMessage(json.dumps(content))))

    def publish(self, msg: str, channel: str = "room", sname: str = "ann", **more: object) -> None:
        self.say(type="publish", channel=channel, sname=sname, msg=msg, **more)

    def item(self) -> dict[str, Any]:
        """The next item; JOIN, LEAVE and COUNT are passed over."""
        while True:
            while not self._items:
                self._read()
            item = self._items.pop(0)
            if item["type"] not in ("JOIN", "LEAVE", "COUNT"):
                return item

    def any_item(self) -> dict[str, Any]:
        while not self._items:
            self._read()
        return self._items.pop(0)

    def pong(self, payload: bytes) -> bytes:
        self.client.send(self._ws.send(Ping(payload)))
        while not self._pongs:
            self._read()
        return self._pongs.pop()

    def until_closed(self) -> int:
        """The code that the server closes with."""
        while self.closed is None:
            self._read()
        return self.closed[0]

    def close(self, code: int = 1000) -> None:
        self.client.send(self._ws.send(CloseConnection(code)))

    def _read(self) -> None:
        self._ws.receive_data(self.client.some())
        for event in self._ws.events():
            if isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    self._items += json.loads(self._text)
                    self._text = ""
            elif isinstance(event, Ping):
                self.client.send(self._ws.send(event.response()))
            elif isinstance(event, Pong):
                self._pongs.append(bytes(event.payload))
            elif isinstance(event, CloseConnection):
                self.closed = int(event.code), event.reason


UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Events:
    """The client's end of server-sent events."""

    def __init__(self, client: Client, target: str, headers: str = "") -> None:
        self.client = client
        client.ask(target, headers=headers)
        self.head = client.until(b"\r\n\r\n")
        assert self.head.startswith(b"HTTP/1.1 200 "), self.head
        self.retry = int(client.until(b"\n\n").removeprefix(b"retry: "))
        self.last_id = ""

    def item(self) -> dict[str, Any]:
        while True:
            event = self.client.until(b"\n\n").decode()
            if event.startswith("id: "):
                self.last_id, data = event.removeprefix("id: ").split("\ndata: ")
                item: dict[str, Any] = json.loads(data)
                if item["type"] not in ("JOIN", "LEAVE", "COUNT"):
                    return item
