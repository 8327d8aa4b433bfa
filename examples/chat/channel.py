"""Channel: what a node knows of one channel, and who listens to it here.

A node reads each channel's news once, however many listen, and has the newest messages at hand for
those who come back. ``position`` is how far it has read. A subscriber that has read as far, and has
joined, gets all that comes after; nothing parks between the two.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import greenpump as gp

from .message import Batch, Item, Message, Position, make_item
from .presence import Presence

if TYPE_CHECKING:
    from .subscriber import Subscriber

RECENT = 100
"""The messages that a node has at hand."""
BURST = 200
"""How many subscribers are written to before others get their turn."""


class Channel:
    """One channel on one node."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.position = Position("", -1)
        """The newest message that this node has seen; without an epoch: none was looked for."""
        self.subscribers: dict[Subscriber, str] = {}
        """Those who listen, with the names they listen under ("": without one)."""
        self.presence = Presence()
        self.only = (self,)
        """For the subscribers that listen to nothing else, so that they share it."""
        self.reading = gp.Mutex()
        """Held by who reads news: they go to the sockets in the order in which they came."""
        self._recent: deque[Message] = deque(maxlen=RECENT)
        self._unserved: dict[Subscriber, str] = {}  # of those that are written to at the moment

    def begin(self, position: Position, recent: Sequence[Message]) -> None:
        """Start anew: in a channel that was not looked at before, or in another epoch."""
        self.position = position
        self._recent.clear()
        self._recent.extend(recent)

    def advance(self, message: Message) -> bool:
        """Take the next message; False when it is not the next one, but one that is known."""
        if message.position.seq <= self.position.seq:
            return False
        assert message.position == (self.position.epoch, self.position.seq + 1)
        self.position = message.position
        self._recent.append(message)
        return True

    def recent(self, seq: int, limit: int) -> list[Message] | None:
        """The messages after ``seq``, or None when the store must be asked."""
        if seq >= self.position.seq:
            return []
        if not self._recent or self._recent[0].position.seq > seq + 1:
            return None
        skip = seq + 1 - self._recent[0].position.seq
        return list(islice(self._recent, skip, skip + limit))

    @property
    def oldest_at_hand(self) -> int:
        """The number of the oldest message at hand; of the next one, if there is none."""
        return self._recent[0].position.seq if self._recent else self.position.seq + 1

    def item(self, kind: str, **more: object) -> Item:
        """An item that says where this node is, and nothing that is kept."""
        return make_item(kind, self.name, self.position, **more)

    def gap(self, position: Position, why: str) -> Item:
        """The item for who has missed something; ``position`` is where it goes on."""
        said = "Some messages may be missing here."
        return make_item("GAP", self.name, position, msg=said, why=why)

    def send(self, batch: Batch) -> int:
        """Write items to all who listen; returns to how many. Parks only to let others run."""
        unserved = self._unserved = self.subscribers.copy()
        for count, subscriber in enumerate(subscribers := list(unserved)):
            if subscriber in unserved:
                subscriber.deliver(self, batch)
            if count % BURST == BURST - 1:
                gp.yield_now()
        self._unserved = {}
        return len(subscribers)

    def leave(self, subscriber: Subscriber) -> str | None:
        """Returns the name that it listened under, None if it didn't.

        What is being sent at the moment isn't for it, even if it comes back before that is done.
        """
        self._unserved.pop(subscriber, None)
        return self.subscribers.pop(subscriber, None)
