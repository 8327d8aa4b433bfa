"""WebSocket: both directions on one connection, by wsproto.

The client sends JSON objects, one in a text frame:

    {"type": "subscribe", "channel": …, "sname": …, "since": …}      and "unsubscribe"
    {"type": "publish", "channel": …, "sname": …, "msg": …, "cid": …}
    {"type": "ping"}

and gets arrays of items, as polls do. A publish is answered with an item of type "publish" when the
message is safe, and whatever can't be done with one whose type is the status that HTTP would have.

Between two messages a WebSocket has no state, so an idle one has no wsproto connection either: one
is made when bytes come, and kept only while a frame or message is incomplete.
Source: RFC 6455.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from socket import SHUT_WR
from typing import Any, NamedTuple

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import AcceptConnection, CloseConnection, Event, Message, Ping, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

import greenpump as gp

from .. import access_log
from ..channel import Channel
from ..http import HttpError, Request
from ..message import Batch, Item, as_json
from ..node import Node
from ..stores import StoreDown
from ..subscriber import Subscriber

MAX_MESSAGE = 16 * 1024
"""Bytes, or characters, of one message of a client's."""
MESSAGE_SECONDS = 20.0
"""How long a message may take from its first byte to its last."""
CLOSE_SECONDS = 2.0
CHUNK = 16 * 1024

Handler = Callable[["WebSocket", str | bytes], object]


class Incoming:
    """A message on its way in, in any number of parts; there is an end to empty ones, too."""

    def __init__(self) -> None:
        self._parts: list[Any] = []  # all str, or all bytes
        self._size = 0

    def add(self, part: str | bytes) -> None:
        self._parts.append(part)
        self._size += len(part)

    @property
    def is_too_long(self) -> bool:
        return max(self._size, len(self._parts)) > MAX_MESSAGE

    def take(self) -> str | bytes:
        """The message, which is complete."""
        parts, self._parts, self._size = self._parts, [], 0
        whole: str | bytes = type(parts[0])().join(parts)
        return whole


class Refused(NamedTuple):
    """Something that is no WebSocket's, or too much: the connection is to be closed with a code."""

    code: int
    reason: str


Found = str | bytes | Ping | CloseConnection | Refused
"""What comes out of a client's bytes: messages, and what isn't one."""


def handshake(request: Request) -> bytes:
    """The answer to the request that begins a WebSocket. Raises HttpError."""
    opening = H11Handshake(ConnectionType.SERVER)
    headers = [(name.encode(), value.encode("latin-1")) for name, value in request.headers.items()]
    try:
        opening.initiate_upgrade_connection(headers, request.target.encode("latin-1"))
        if len(b64decode(request.headers["sec-websocket-key"], validate=True)) != 16:
            raise ValueError("Sec-WebSocket-Key is not 16 bytes")
        return opening.send(AcceptConnection())
    except RemoteProtocolError as error:
        upgrade = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        raise HttpError(426, f"this is not how a WebSocket begins: {error}", upgrade) from None
    except (ValueError, LookupError) as error:
        raise HttpError(400, f"this is not how a WebSocket begins: {error}") from None


def _frame(event: Event) -> bytes:
    """A frame of the server's; these depend on nothing that was said before."""
    return Connection(ConnectionType.SERVER).send(event)


def encode(items: Sequence[Item]) -> bytes:
    return _frame(TextMessage(as_json(items)))


PING = _frame(Ping())
GOING_AWAY = _frame(CloseConnection(CloseReason.SERVICE_RESTART, "come back soon"))


class WebSocket(Subscriber):
    """One client. ``handle(websocket, message)`` is called with each message; it may park."""

    __slots__ = ("_busy", "_closing", "_handle", "_waits_for_pong")

    PRESENT_SECONDS = 10.0

    def __init__(self, node: Node, conn: gp.Socket, client: str, handle: Handler) -> None:
        super().__init__(node, conn, client)
        self._handle = handle
        self._busy = self._closing = self._waits_for_pong = False

    # -- to the client -----------------------------------------------------------------------------

    def write_batch(self, batch: Batch) -> None:
        self.write(batch.encoded(encode))

    def deliver(self, channel: Channel, batch: Batch) -> None:
        self.write_batch(batch)

    def say(self, **content: object) -> None:
        """Send an item that is for this client alone. Doesn't park."""
        self.write(_frame(TextMessage(json.dumps([content]))))

    def close(self, code: int, reason: str) -> None:
        """Refuse to go on: say why, and give the client a moment to agree. Doesn't park."""
        self.node.counters.refused += 1
        access_log.refused(self.client, "WebSocket", code, reason)
        self._part(_frame(CloseConnection(code, reason)))

    def _part(self, frame: bytes) -> None:
        self.on_end()  # nothing may follow the frame
        self._closing = True
        self.node.wheel.put(self, CLOSE_SECONDS)
        self.write(frame)

    def on_due(self) -> None:
        if self._closing:
            self.end()
        elif self._waits_for_pong:
            self.cut_off()
        else:
            self._waits_for_pong = not self._busy  # who isn't read may have answered long ago
            self.node.wheel.put(self, self.node.limits.poll_seconds)
            self.write(PING)

    def on_drain(self) -> None:
        self._part(GOING_AWAY)

    # -- from the client ---------------------------------------------------------------------------

    def read(self, data: bytes = b"") -> None:
        """Handle what the client has sent, then rest. Parks while a message is incomplete."""
        parser = Connection(ConnectionType.SERVER)
        message = Incoming()
        found = _parse(parser, message, data)
        while True:
            for event in found:
                if self._closing:
                    break  # what follows is not for us
                self._take(event)
            if self._closing:
                self._hang_up()
                return
            if not _is_incomplete(parser):
                self.rest(self.node.limits.poll_seconds)
                return
            found = self._more(parser, message)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """While the chat does what the client asked for: should that fail, the client is told."""
        try:
            yield
        except OSError:
            raise  # the client left
        except StoreDown:
            self.close(1013, "the store can't be reached, try again")
        except Exception:
            self.close(CloseReason.INTERNAL_ERROR, "this is the server's fault")
            self._hang_up()
            raise  # greenpump reports it

    def _take(self, event: Found) -> None:
        if isinstance(event, Ping):
            self.write(_frame(event.response()))
        elif isinstance(event, Refused):
            self.close(event.code, event.reason)
        elif isinstance(event, CloseConnection):
            self._part(_frame(event.response()))
        else:
            self._busy = True
            with self.answering():
                self._handle(self, event)
            self._busy = False

    def _more(self, parser: Connection, message: Incoming) -> list[Found]:
        """What else comes of a message that is incomplete; pings in between give it no more time.

        Parks.
        """
        try:
            with gp.timeout(MESSAGE_SECONDS):
                while _is_incomplete(parser):
                    found = _parse(parser, message, self._recv())
                    if self._closing or not all(isinstance(event, Ping) for event in found):
                        return found
                    for ping in found:
                        self._take(ping)
        except TimeoutError:
            return [Refused(1008, f"a message took longer than {MESSAGE_SECONDS} s")]
        return []

    def _hang_up(self) -> None:
        """Close when the client has read why: with data unread, it would be a reset."""
        self.flush()
        self.conn.shutdown(SHUT_WR)
        while self.conn.recv(CHUNK):  # until it is due, at the latest
            pass
        self.end()

    def on_readable(self) -> None:
        data = self._recv()
        if self._closing:
            self.end()  # it has agreed, or hasn't understood
        else:
            self.read(data)

    def _recv(self) -> bytes:
        data = self.conn.recv(CHUNK)
        if not data:
            raise ConnectionResetError("the client hung up")
        self._waits_for_pong = False
        return data


def _parse(parser: Connection, message: Incoming, data: bytes) -> list[Found]:
    """What ``data`` completes: messages, pings, or the end."""
    found: list[Found] = []
    parser.receive_data(data)
    for event in parser.events():
        if isinstance(event, Message):
            message.add(event.data)
            if message.is_too_long:
                reason = f"a message is longer than {MAX_MESSAGE}"
                return [*found, Refused(CloseReason.MESSAGE_TOO_BIG, reason)]
            if event.message_finished:
                found.append(message.take())
        elif isinstance(event, CloseConnection) and parser.state is ConnectionState.OPEN:
            # Not the client's: wsproto's, for what is no frame.
            found.append(Refused(event.code, event.reason or ""))
        elif isinstance(event, Ping | CloseConnection):
            found.append(event)
    return found


def _is_incomplete(parser: Connection) -> bool:
    """Whether a frame or message has begun and not ended: wsproto knows, but has no word for it."""
    protocol = parser._proto
    decoder, message = protocol._frame_decoder, protocol._message_decoder
    return bool(decoder.header or len(decoder.buffer) or message.opcode)
