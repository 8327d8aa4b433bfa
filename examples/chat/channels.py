"""Channels: what was said in each room, and who waits for more.

A channel numbers its messages 0, 1, 2, ... (``seqid``) and keeps the newest ones. A client that has
seen everything up to some ``seqid`` asks for the rest, from the next one on; when there is no rest
it waits. Whatever it gets, be it a message (MSG), somebody's arrival (SIGN), a sign of life (NOOP)
or word that messages are missing (GAP), it goes on from that item's ``seqid + 1``.

``epoch`` names one life of a channel. After a restart the numbers begin anew, and a client that
comes with another epoch gets a GAP and then all there is, instead of silence or the wrong half.

All channels belong to one hub: nothing here parks, so nothing needs a lock.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

HISTORY = 1000
HISTORY_BYTES = 512 * 1024
"""The newest messages that a channel keeps: this many, and not more than this much JSON."""
BATCH = 200
"""The most messages that one response carries; the rest is there for the next poll."""
CHANNELS = 10_000


class TooManyChannels(Exception):
    """Somebody waits in every channel there is room for, so none can make way for a new one."""


class Channel:
    """One room. Items are handed out as JSON texts, encoded once however many read them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.epoch = secrets.token_hex(4)
        self._next = 0
        self._history: deque[str] = deque()
        self._bytes = 0
        self._waiting: dict[Callable[[], None], list[str]] = {}

    def publish(self, sname: str, msg: str) -> int:
        """Add a message and wake everybody who waits; return its seqid."""
        seqid = self._next
        text = self._item("MSG", msg, sname, seqid)
        self._history.append(text)
        self._bytes += len(text)
        while len(self._history) > HISTORY or self._bytes > HISTORY_BYTES:
            self._bytes -= len(self._history.popleft())
        self._next += 1
        for wake in self._waiting:
            wake()
        return seqid

    def sign(self, sname: str) -> int:
        """Tell everybody who waits that ``sname`` is here; return the newest seqid (-1: none).

        An arrival is news only to those present, so it isn't kept and takes no number.
        """
        text = self._item("SIGN", "SIGN", sname, self._next - 1)
        for wake, signs in self._waiting.items():
            signs.append(text)
            wake()
        return self._next - 1

    def since(self, seqid: int, epoch: str | None = None) -> list[str]:
        """The messages from ``seqid`` on, at most BATCH; empty for who has seen them all.

        They begin with a GAP where the client's next message is no longer here: trimmed from the
        history, or of another epoch. ``epoch`` None is a client that knows of none.
        """
        oldest = self._next - len(self._history)
        gap = []
        if seqid < oldest or seqid > self._next or epoch not in (None, self.epoch):
            seqid = oldest
            gap = [self._item("GAP", "Some messages may be missing here.", "", oldest - 1)]
        return gap + list(islice(self._history, seqid - oldest, seqid - oldest + BATCH))

    def noop(self) -> str:
        """The item for a wait that ended without news."""
        return self._item("NOOP", "", "", self._next - 1)

    @contextmanager
    def waiting(self, wake: Callable[[], None]) -> Iterator[list[str]]:
        """While the block runs, news calls ``wake``; the list it yields collects the arrivals."""
        signs: list[str] = []
        self._waiting[wake] = signs
        try:
            yield signs
        finally:
            del self._waiting[wake]

    @property
    def waiters(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def _item(self, kind: str, msg: str, sname: str, seqid: int) -> str:
        return json.dumps(
            {
                "type": kind,
                "msg": msg,
                "sname": sname,
                "seqid": seqid,
                "channel": self.name,
                "epoch": self.epoch,
                "time": int(time.time()),
            },
            separators=(",", ":"),
        )


class Channels:
    """All channels, by name: made when first asked for, forgotten when room is needed.

    The one that makes way is the least recently used in which nobody waits. Should somebody come
    back to it, the new one's epoch tells them that messages are missing.
    """

    def __init__(self, limit: int = CHANNELS) -> None:
        self._limit = limit
        self._channels: OrderedDict[str, Channel] = OrderedDict()

    def __getitem__(self, name: str) -> Channel:
        """The channel of that name. Raises TooManyChannels."""
        channel = self._channels.get(name)
        if channel is None:
            if len(self._channels) >= self._limit:
                self._forget_one()
            channel = self._channels[name] = Channel(name)
        self._channels.move_to_end(name)
        return channel

    def __len__(self) -> int:
        return len(self._channels)

    @property
    def waiters(self) -> int:
        """How many wait, in all channels together."""
        return sum(channel.waiters for channel in self._channels.values())

    def _forget_one(self) -> None:
        for name, channel in self._channels.items():
            if not channel.waiters:
                del self._channels[name]
                return
        raise TooManyChannels
