"""Subscriber: a resting connection that gets what is said in channels. See ``transports/``."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import greenpump as gp

from .message import Batch, Position
from .resting import Resting

if TYPE_CHECKING:
    from .channel import Channel
    from .node import Node


class Subscriber(Resting):
    """What all transports have in common."""

    __slots__ = ("channels",)

    PRESENT_SECONDS: ClassVar[float]
    """How long a client that left is still present: it may be about to come back."""

    def __init__(self, node: Node, conn: gp.Socket, client: str) -> None:
        super().__init__(node, conn, client)
        self.channels: tuple[Channel, ...] = ()

    def deliver(self, channel: Channel, batch: Batch) -> None:
        """Write what is new in ``channel``. Must not park."""
        raise NotImplementedError

    def write_batch(self, batch: Batch) -> None:
        """Write items as the transport has it. Must not park."""
        raise NotImplementedError

    def catch_up(self, channel: Channel, position: Position) -> None:
        """Send all that came after ``position``, as far as the node has read it; parks."""
        while items := self.node.since(channel, position):
            self.write_batch(Batch(items))
            self.flush()
            if self.conn.fileno() < 0:
                raise ConnectionResetError("the client has left, or was cut off")
            position = items[-1].position

    def join(self, channel: Channel, sname: str) -> None:
        """Get what comes from now on. Doesn't park."""
        self.channels = (*self.channels, channel) if self.channels else channel.only
        self.node.join(channel, self, sname)

    def leave(self, channel: Channel) -> None:
        """Get no more of it. Doesn't park."""
        self.channels = tuple(each for each in self.channels if each is not channel)
        self.node.leave(channel, self)

    def on_end(self) -> None:
        for channel in self.channels:
            self.node.leave(channel, self)
        self.channels = ()
