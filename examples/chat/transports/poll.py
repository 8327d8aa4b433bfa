"""Long poll: a request that is answered when there is news, or after 30 s with a NOOP.

The connection rests while the poll waits, and goes on resting when it was answered: until the
client sends its next request.
"""

from __future__ import annotations

from collections.abc import Sequence

import greenpump as gp

from ..channel import Channel
from ..http import Request, Response
from ..message import Batch, Item, as_json
from ..node import Node
from ..resting import KeptAlive
from ..subscriber import Subscriber
from . import jsonp

NO_STORE = {"Cache-Control": "no-store"}


def answer(items: Sequence[Item], callback: str = "") -> Response:
    """Items as a poll is answered: JSON, or a script that calls ``callback``."""
    return reply(as_json(items), callback)


def reply(text: str, callback: str = "", status: int = 200) -> Response:
    """JSON as the client asked for it. A script is only run when its status is 200."""
    if callback:
        return Response(200, jsonp.encode(callback, text), jsonp.CONTENT_TYPE, NO_STORE)
    return Response(status, text.encode("ascii"), "application/json", NO_STORE)


def encode(items: Sequence[Item]) -> bytes:
    return answer(items).encode(keep_alive=True)


def encode_last(items: Sequence[Item]) -> bytes:
    return answer(items).encode(keep_alive=False)


class Poll(Subscriber):
    """One poll, from its request to the next."""

    __slots__ = ("callback", "keep_alive")

    PRESENT_SECONDS = 45.0

    def __init__(self, node: Node, conn: gp.Socket, request: Request) -> None:
        super().__init__(node, conn, request.client)
        self.callback = jsonp.callback_of(request)
        self.keep_alive = request.keep_alive

    def wait(self, channel: Channel, sname: str, seconds: float) -> None:
        """Wait for news without a task. Doesn't park."""
        self.join(channel, sname)
        self.rest(seconds)

    def deliver(self, channel: Channel, batch: Batch) -> None:
        if not batch.passing:
            self._answer(batch)

    def on_due(self) -> None:
        if self.channels:
            self._answer(Batch([self.channels[0].item("NOOP")]))
        else:
            self.end()  # it was answered, and nothing came after it

    def on_drain(self) -> None:
        self.keep_alive = False
        self.on_due()

    def on_readable(self) -> None:
        # A client that goes on (or hangs up) before its poll was answered waits for it no longer.
        if self.channels:
            self.on_due()
        self.flush()
        self.node.wheel.drop(self)
        if self.keep_alive:
            self.node.talk(self.conn, self.client)
        else:
            self.end()

    def _answer(self, batch: Batch) -> None:
        self.leave(self.channels[0])
        self.node.wheel.put(self, KeptAlive.SECONDS)
        if self.callback:
            response = answer(batch.items, self.callback)
            self.write(response.encode(keep_alive=self.keep_alive))
        else:
            self.write(batch.encoded(encode if self.keep_alive else encode_last))
        if not self.keep_alive:
            self.end()
