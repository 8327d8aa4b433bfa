"""Resting: a connection for which no task waits.

Most of a chat's connections say nothing most of the time. Such a one costs its socket and the few
words below: when its client says something, a task is spawned for ``on_readable``; when its time
has come (``Wheel``), ``on_due`` is called; and what it is sent in the meantime is written by who
has it to tell, straight to the socket.

Nobody who writes ever waits. What the kernel doesn't take is kept and sent by a task of its own,
up to a bound: a client that doesn't read is cut off, and comes back for what it has missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import greenpump as gp

if TYPE_CHECKING:
    from .node import Node

MAX_BACKLOG = 256 * 1024
"""The bytes that may wait for one client: above it, the client is cut off."""
STALL_SECONDS = 30.0
"""How long a client may take nothing of what waits for it."""
CHUNK = 64 * 1024


class Backlog:
    """What a slow client has still to be sent, and the task that does it."""

    def __init__(self, resting: Resting, data: bytes) -> None:
        self.data = bytearray(data)
        self.task = gp.spawn(self._send, resting)

    def _send(self, resting: Resting) -> None:
        try:
            while self.data:
                chunk = bytes(self.data[:CHUNK])
                with gp.timeout(STALL_SECONDS):
                    resting.conn.sendall(chunk)
                del self.data[: len(chunk)]
            resting.backlog = None
        except OSError:  # it left, or it doesn't read: TimeoutError is one, too
            resting.cut_off()


class Resting:
    """A connection between two things that its client says; subclasses know what it waits for."""

    __slots__ = ("backlog", "client", "conn", "due", "node")

    def __init__(self, node: Node, conn: gp.Socket, client: str) -> None:
        self.node = node
        self.conn = conn
        self.client = client
        self.due = 0
        self.backlog: Backlog | None = None

    def on_readable(self) -> None:
        """The client has said something, or hung up. In a task of its own; may park."""
        raise NotImplementedError

    def on_due(self) -> None:
        """Its time has come. Must not park."""
        raise NotImplementedError

    def on_drain(self) -> None:
        """The server ends: tell the client to come back later. Must not park."""
        raise NotImplementedError

    def on_end(self) -> None:
        """It is over: whoever knows the connection is to forget it. Must not park."""

    def rest(self, seconds: float) -> None:
        """Hold no task until the client says something, or ``seconds`` have passed."""
        try:
            self.conn.detach_until_readable(self._spoken_to)
        except OSError:
            self.end()  # closed: what was last written has not reached it
        else:
            self.node.wheel.put(self, seconds)

    def write(self, data: bytes) -> None:
        """Send ``data`` without waiting for it: never parks, never raises."""
        if self.backlog is not None:
            self.backlog.data += data
            if len(self.backlog.data) > MAX_BACKLOG:
                self.cut_off()
            return
        try:
            sent = self.conn.try_send(data)
        except OSError:
            self.end()
            return
        if sent < len(data):
            self.backlog = Backlog(self, data[sent:])

    def flush(self) -> None:
        """Park until what was written has been taken by the kernel, or the client is gone."""
        if self.backlog is not None:
            self.backlog.task.join()

    def cut_off(self) -> None:
        """The client doesn't read: waste no more on it."""
        if self.conn.fileno() >= 0:
            self.node.counters.cut_off += 1
            self.conn.abort()
        self.end()

    def end(self) -> None:
        """Close the connection, after what was written; harmless when that is done already."""
        self.node.wheel.drop(self)
        self.on_end()
        if self.backlog is None or self.conn.fileno() < 0:
            self.conn.close()
        else:
            gp.spawn(self._end_slowly)

    def _end_slowly(self) -> None:
        self.flush()
        self.conn.close()

    def _spoken_to(self, conn: gp.Socket) -> None:
        try:
            self.on_readable()
        except OSError:
            self.end()  # it left: there is nobody to tell
        except BaseException:
            self.end()
            raise  # greenpump reports it


class Wheel:
    """When each resting connection is due, to the second: however many, one task minds them."""

    def __init__(self) -> None:
        self._now = 1
        self._due: dict[int, set[Resting]] = {}

    def put(self, resting: Resting, seconds: float) -> None:
        """Have ``resting.on_due()`` called in ``seconds``, and not when it was told before."""
        self.drop(resting)
        resting.due = self._now + max(round(seconds), 1)
        self._due.setdefault(resting.due, set()).add(resting)

    def drop(self, resting: Resting) -> None:
        due = self._due.get(resting.due)
        if due is not None:
            due.discard(resting)
            if not due:
                del self._due[resting.due]
        resting.due = 0

    def turn(self) -> None:
        """Once a second: call those that are due. Parks in between."""
        self._now += 1
        for count, resting in enumerate(list(self._due.get(self._now, ()))):
            if resting.due == self._now:  # else it was dropped while this went on
                self.drop(resting)
                resting.on_due()
            if count % 100 == 99:
                gp.yield_now()

    def __iter__(self) -> Iterator[Resting]:
        for due in list(self._due.values()):
            yield from list(due)

    def __len__(self) -> int:
        return sum(map(len, self._due.values()))


class KeptAlive(Resting):
    """An HTTP connection between two requests."""

    __slots__ = ()

    SECONDS = 75.0

    def on_readable(self) -> None:
        self.node.wheel.drop(self)
        self.node.talk(self.conn, self.client)

    def on_due(self) -> None:
        self.end()

    def on_drain(self) -> None:
        self.end()
