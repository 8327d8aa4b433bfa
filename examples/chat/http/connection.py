"""Connection: one client's socket as a sequence of requests, each to be responded to in turn.

    connection = Connection(conn, "10.0.0.1")
    for request in connection:
        connection.respond(request, Response(body=b"hello"))
    if connection.rests:
        ...  # the client may send more, some day

Keep-alive and pipelining are that loop: whatever the client has sent ahead waits its turn. It ends
when nothing more is at hand, so that nobody need wait for a client that is silent. How long the
client may take for a request, or to read a response, is limited.
"""

from __future__ import annotations

from collections.abc import Iterator
from socket import SHUT_WR

from greenpump import Socket, move_on_after, timeout

from .message import HttpError, Request, Response
from .parser import new_parser

REQUEST_SECONDS = 20.0
"""How long a request may take from its first byte to its last: a whole one, however it trickles."""
RESPONSE_SECONDS = 30.0
"""How long the client may take to read a response."""
LINGER_SECONDS = 2.0
CHUNK = 16 * 1024


class Connection:
    """One client's socket; iterating yields its requests, as long as there are any at hand."""

    def __init__(self, conn: Socket, client: str = "") -> None:
        self.conn = conn
        self.client = client
        self.rests = False
        """Whether the client may send another request, of which nothing has come yet."""
        self._parser = new_parser()

    def __iter__(self) -> Iterator[Request]:
        """Yield each request, parking until it has arrived in full; also for the first byte.

        Raises HttpError for one that is malformed, too large or too slow.
        """
        self.rests = False
        while request := self._read_request():
            yield request
            if not request.keep_alive:
                return
            if not self.has_more:
                self.rests = True
                return

    @property
    def has_more(self) -> bool:
        """Whether the client has sent something beyond its last request."""
        parser = self._parser
        return bool(parser.complete) or parser.started or parser.error is not None

    @property
    def rest(self) -> bytes:
        """What came after a request to change the protocol."""
        return self._parser.rest

    def respond(self, request: Request, response: Response) -> None:
        """Send the response; parks while the client's receive buffer is full.

        Raises TimeoutError when the client doesn't read it in time, ConnectionError when it left.
        """
        with_body = request.method != "HEAD"
        self.send(response.encode(keep_alive=request.keep_alive, with_body=with_body))

    def send(self, data: bytes) -> None:
        with timeout(RESPONSE_SECONDS):
            self.conn.sendall(data)

    def refuse(self, error: HttpError) -> None:
        """Say what was wrong with the request, if anybody listens, and be done with the client.

        What it still sends is thrown away for a while: to close with unread data would reset the
        connection, and the client might never read why.
        """
        body = f"{error.reason}\n".encode()
        try:
            self.send(Response(error.status, body, headers=error.headers).encode(keep_alive=False))
            self.conn.shutdown(SHUT_WR)
            with move_on_after(LINGER_SECONDS):
                while self.conn.recv(CHUNK):
                    pass
        except OSError:
            pass  # it left, or doesn't read

    def _read_request(self) -> Request | None:
        parser = self._parser
        if not self.has_more:
            first = self.conn.recv(CHUNK)
            if not first:
                return None
            parser.feed(first)
        try:
            with timeout(REQUEST_SECONDS):
                while not parser.complete:
                    if parser.error is not None:
                        raise parser.error
                    if parser.wants_continue:
                        self.conn.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                    data = self.conn.recv(CHUNK)
                    if not data:
                        raise HttpError(400, "the connection ended in the middle of a request")
                    parser.feed(data)
        except TimeoutError:
            raise HttpError(408, f"the request took longer than {REQUEST_SECONDS} s") from None
        request = parser.complete.popleft()
        request.client = self.client
        return request
