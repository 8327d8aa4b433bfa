"""Store: what the chat asks of a place to keep messages in. ``open_store`` makes one from a URL.

memory                       this process's memory, gone with it
sqlite:chat.db               a file; one process
redis://localhost:6379/0     Redis Streams, shared by any number of processes and machines
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from ..message import Message, News, Notice, Position

CID_SECONDS = 86400
"""For how long a message with a cid is known to have been said, whether it is still kept or not."""


class StoreDown(Exception):
    """The store can't be reached, or can't write: nothing is known to be kept. Try again."""


class Bounds(NamedTuple):
    """How much history a channel keeps: the newest messages within all three."""

    messages: int = 1000
    characters: int = 512 * 1024
    """Of ``msg`` and ``sname`` together."""
    seconds: float = 7 * 86400.0
    """A channel that nobody writes to for so long is forgotten, too."""


class Feed(AbstractContextManager["Feed"], Protocol):
    """News of all channels, from its making on: each batch in the order of its making.

    Iterating parks until there is news. Raises StoreDown, after which it is of no more use.
    """

    def __iter__(self) -> Iterator[Sequence[News]]: ...


class Store(Protocol):
    """All methods may park, and raise StoreDown. Usable from every hub of the process."""

    shared: bool
    """Whether other processes may use the same one at the same time."""

    def publish(self, channel: str, sname: str, msg: str, cid: str) -> Message:
        """Keep a message and send it to all feeds; parks until it is safe.

        One that was kept already, by its ``cid``, is sent to nobody, and returned as it was, or at
        least with the number it had.
        """

    def position(self, channel: str) -> Position:
        """The place after the newest message. A channel is made by asking for it."""

    def since(self, channel: str, seq: int, limit: int) -> list[Message]:
        """The messages with a higher number than ``seq``, oldest first, at most ``limit``.

        When it has no longer all of them it begins with the oldest that it has.
        """

    def tell(self, notice: Notice) -> None:
        """Send a notice to all feeds."""

    def clear(self, channel: str) -> None:
        """Forget the channel's history: it begins a new epoch."""

    def channels(self) -> int:
        """How many channels there are."""

    def follow(self) -> Feed:
        """Listen to all that is published and told from now on."""

    def expire(self) -> None:
        """Forget the channels that have outlived the bounds; called every minute or so."""

    def close(self) -> None:
        """Be done with it."""


def open_store(url: str, bounds: Bounds = Bounds()) -> Store:  # noqa: B008 - it is immutable
    """The store that ``url`` names. Raises ValueError, StoreDown."""
    # Imported here: nobody needs a Redis client for a file.
    scheme, _, rest = url.partition(":")
    if url == "memory":
        from .memory import MemoryStore

        return MemoryStore(bounds)
    if scheme == "sqlite" and rest:
        from .sqlite import SqliteStore

        return SqliteStore(rest, bounds)
    if scheme == "redis":
        from .redis_streams import RedisStore

        return RedisStore(url, bounds)
    raise ValueError(f"no such store: {url!r} (memory, sqlite:FILE or redis://HOST:PORT/DB)")
