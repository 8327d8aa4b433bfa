"""Connection: one client's socket as a sequence of requests, each to be responded to in turn.

    for request in connection:
        connection.respond(request, Response(body=b"hello"))

Keep-alive and pipelining are that loop: whatever the client has sent ahead waits its turn. No
client can hold the connection for nothing: how long it may idle, take for a request, or take to
read a response is limited, and so is what it can send ahead.
"""

from __future__ import annotations

from collections.abc import Iterator
from socket import SHUT_WR

from greenpump import Socket, move_on_after, timeout

from .message import HttpError, Request, Response
from .parser import new_parser

IDLE_SECONDS = 75.0
"""How long a kept-alive connection may say nothing."""
REQUEST_SECONDS = 20.0
"""How long a request may take from its first byte to its last: a whole one, however it trickles."""
RESPONSE_SECONDS = 30.0
"""How long the client may take to read a response."""
LINGER_SECONDS = 2.0
CHUNK = 16 * 1024


class Connection:
    """One client's socket; iterating yields its requests."""

    def __init__(self, conn: Socket) -> None:
        self._conn = conn
        self._parser = new_parser()
        self._ahead = bytearray()

    def __iter__(self) -> Iterator[Request]:
        """Yield each request, parking until it has arrived in full; end when the client is done.

        Raises HttpError for one that is malformed, too large or too slow.
        """
        while request := self._read_request():
            yield request
            if not request.keep_alive:
                return

    def respond(self, request: Request, response: Response) -> None:
        """Send the response; parks while the client's receive buffer is full.

        Raises TimeoutError when the client doesn't read it in time, ConnectionError when it left.
        """
        with_body = request.method != "HEAD"
        self._send(response.encode(keep_alive=request.keep_alive, with_body=with_body))

    def refuse(self, error: HttpError) -> None:
        """Say what was wrong with the request, if anybody listens, and be done with the client.

        What it still sends is thrown away for a while: to close with unread data would reset the
        connection, and the client might never read why.
        """
        body = f"{error.reason}\n".encode()
        try:
            self._send(Response(error.status, body, headers=error.headers).encode(keep_alive=False))
            self._conn.shutdown(SHUT_WR)
            with move_on_after(LINGER_SECONDS):
                while self._conn.recv(CHUNK):
                    pass
        except OSError:
            pass  # it left, or doesn't read

    def wait_hangup(self) -> None:
        """Park until the client hangs up: for a response that is not due yet.

        What it pipelines meanwhile is kept for later. One that sends more than a chunk of it is
        not worth waiting for either: that also ends the wait.
        """
        while len(self._ahead) <= CHUNK:
            data = self._conn.recv(CHUNK)
            if not data:
                return
            self._ahead += data

    def _read_request(self) -> Request | None:
        parser = self._parser
        if not parser.complete and not parser.started and parser.error is None:
            with move_on_after(IDLE_SECONDS) as idle:
                first = self._receive()
            if idle.expired or not first:
                return None
            parser.feed(first)
        try:
            with timeout(REQUEST_SECONDS):
                while not parser.complete:
                    if parser.error is not None:
                        raise parser.error
                    if parser.wants_continue:
                        self._conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                    data = self._receive()
                    if not data:
                        raise HttpError(400, "the connection ended in the middle of a request")
                    parser.feed(data)
        except TimeoutError:
            raise HttpError(408, f"the request took longer than {REQUEST_SECONDS} s") from None
        request = parser.complete.popleft()
        request.wait_hangup = self.wait_hangup
        return request

    def _receive(self) -> bytes:
        if self._ahead:
            data, self._ahead = bytes(self._ahead), bytearray()
            return data
        return self._conn.recv(CHUNK)

    def _send(self, data: bytes) -> None:
        with timeout(RESPONSE_SECONDS):
            self._conn.sendall(data)
