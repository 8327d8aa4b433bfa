"""MemoryStore: the history in this process's memory. Fast, and gone with the process."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict, deque
from itertools import islice
from threading import Lock

from ..message import Message, Notice, Position
from .local import LocalFeed, LocalFeeds
from .store import Bounds

CHANNELS = 20_000
CIDS = 10_000
"""The cids that are remembered of a channel."""


class _History:
    def __init__(self) -> None:
        self.epoch = secrets.token_hex(4)
        self.next = 0
        self.size = 0
        self.messages: deque[Message] = deque()
        self.said: OrderedDict[str, int] = OrderedDict()  # the numbers, by cid
        self.used = time.time()

    def add(self, message: Message) -> None:
        self.next += 1
        self.size += len(message.sname) + len(message.msg)
        self.messages.append(message)
        if message.cid:
            self.said[message.cid] = message.position.seq
            if len(self.said) > CIDS:
                self.said.popitem(last=False)

    def after(self, seq: int, limit: int) -> list[Message]:
        skip = max(seq + 1 - self.next + len(self.messages), 0)
        return list(islice(self.messages, skip, skip + limit))

    def trim(self, bounds: Bounds) -> None:
        oldest = time.time() - bounds.seconds
        messages = self.messages
        while messages and (
            len(messages) > bounds.messages
            or self.size > bounds.characters
            or messages[0].time < oldest
        ):
            gone = messages.popleft()
            self.size -= len(gone.sname) + len(gone.msg)


class MemoryStore:
    """See ``Store``. The lock is for other hubs' threads; nothing parks while it is held."""

    shared = False

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._lock = Lock()
        self._histories: OrderedDict[str, _History] = OrderedDict()  # the least recently used first
        self._feeds = LocalFeeds()

    def publish(self, channel: str, sname: str, msg: str, cid: str) -> Message:
        with self._lock:
            history = self._history(channel)
            position = Position(history.epoch, history.said.get(cid, history.next))
            message = Message(channel, position, sname, msg, int(time.time()), cid)
            if position.seq < history.next:  # it was said
                kept = history.after(position.seq - 1, 1)
                return kept[0] if kept and kept[0].position == position else message
            history.add(message)
            history.trim(self._bounds)
            self._feeds.send([message])
            return message

    def position(self, channel: str) -> Position:
        with self._lock:
            history = self._history(channel)
            return Position(history.epoch, history.next - 1)

    def since(self, channel: str, seq: int, limit: int) -> list[Message]:
        with self._lock:
            history = self._history(channel)
            history.trim(self._bounds)
            return history.after(seq, limit)

    def tell(self, notice: Notice) -> None:
        self._feeds.send([notice])

    def clear(self, channel: str) -> None:
        with self._lock:
            self._histories.pop(channel, None)
        self.tell(Notice(channel, "CLEAR"))

    def channels(self) -> int:
        return len(self._histories)

    def follow(self) -> LocalFeed:
        return self._feeds.add()

    def expire(self) -> None:
        oldest = time.time() - self._bounds.seconds
        with self._lock:
            while self._histories and next(iter(self._histories.values())).used < oldest:
                self._histories.popitem(last=False)

    def close(self) -> None:
        pass

    def _history(self, channel: str) -> _History:
        history = self._histories.get(channel)
        if history is None:
            history = self._histories[channel] = _History()
            if len(self._histories) > CHANNELS:
                self._histories.popitem(last=False)
        history.used = time.time()
        self._histories.move_to_end(channel)
        return history
