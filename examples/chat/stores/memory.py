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


class _History:
    def __init__(self) -> None:
        self.epoch = secrets.token_hex(4)
        self.next = 0
        self.size = 0
        self.messages: deque[Message] = deque()
        self.by_cid: dict[str, Message] = {}
        self.used = time.time()

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
            self.by_cid.pop(gone.cid, None)


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
            if cid and cid in history.by_cid:
                return history.by_cid[cid]
            position = Position(history.epoch, history.next)
            message = Message(channel, position, sname, msg, int(time.time()), cid)
            history.next += 1
            history.size += len(sname) + len(msg)
            history.messages.append(message)
            if cid:
                history.by_cid[cid] = message
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
            oldest = history.next - len(history.messages)
            skip = max(seq + 1 - oldest, 0)
            return list(islice(history.messages, skip, skip + limit))

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
