"""Server-sent events: one response that never ends, which browsers read with ``EventSource``.

Each item is an event whose id is its position; a browser that loses the connection comes back by
itself and says in ``Last-Event-ID`` where it was. Source: the HTML standard, section 9.2.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from ..channel import Channel
from ..http import Response
from ..message import Batch, Item, Position
from ..subscriber import Subscriber

RETRY_SECONDS = 2.0
SIGN_OF_LIFE = b":\n\n"


def head() -> bytes:
    """The beginning of the response, which has no length: it ends with the connection."""
    return Response(
        200,
        f"retry: {retry_ms()}\n\n".encode(),
        "text/event-stream",
        {"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    ).encode(keep_alive=False, with_length=False)


def retry_ms() -> int:
    """When to come back: not everybody at once."""
    return int(1000 * RETRY_SECONDS * (0.5 + random.random()))


def encode(items: Sequence[Item]) -> bytes:
    return "".join(f"id: {item.position}\ndata: {item.text}\n\n" for item in items).encode("ascii")


class EventStream(Subscriber):
    """The client of one ``EventSource``."""

    __slots__ = ()

    PRESENT_SECONDS = 10.0

    def begin(self, channel: Channel, sname: str, position: Position) -> None:
        """Send what the client has missed, then what comes, without a task. Parks for the first."""
        self.write(head())
        self.catch_up(channel, position)
        self.join(channel, sname)
        self.rest(self.node.limits.poll_seconds)

    def write_batch(self, batch: Batch) -> None:
        self.write(batch.encoded(encode))

    def deliver(self, channel: Channel, batch: Batch) -> None:
        self.write_batch(batch)

    def on_due(self) -> None:
        self.node.wheel.put(self, self.node.limits.poll_seconds)
        self.write(SIGN_OF_LIFE)

    def on_drain(self) -> None:
        self.write(f"retry: {retry_ms()}\n\n".encode())
        self.end()

    def on_readable(self) -> None:
        self.end()  # the client hangs up; or it talks, which nobody expects of it
