"""A client on the other end of a socket pair: bytes out, responses in, all in one hub."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import greenpump as gp
from examples.chat.chat import Chat

Handler = Callable[[gp.Socket, Any], object]


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
        if method != "HEAD" and parsed.status not in (204, 304):
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
def client_of(handler: Handler) -> Iterator[Client]:
    """A client of ``handler``, which must have come to its end when the client has left."""
    theirs, ours = gp.socketpair()

    def serve() -> None:
        with theirs:
            handler(theirs, None)

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
def chatting(chat: Chat, count: int = 1) -> Iterator[list[Client]]:
    """Clients of one chat; when all have left nobody waits in any channel."""
    if count == 0:
        yield []
        assert chat.channels.waiters == 0
        return
    with chatting(chat, count - 1) as others, client_of(chat.handle_conn) as client:
        yield [*others, client]
