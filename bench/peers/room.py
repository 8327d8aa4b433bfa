"""What the chats of the other libraries have in common: one channel's history and its texts."""

from __future__ import annotations

import json
import secrets
import time
from collections import deque
from typing import Any

HISTORY = 1000
LONGEST = 512
"""As in examples/chat: messages kept, and characters of one."""


class Room:
    """A channel without its subscribers, which each library has in its own way."""

    def __init__(self) -> None:
        self._epoch = secrets.token_hex(4)
        self._next = 0
        self._history: deque[dict[str, Any]] = deque(maxlen=HISTORY)

    def hello(self, count: int) -> str:
        """What a new subscriber is told."""
        return _text(**self._place("HELLO", self._next - 1), count=count)

    def publish(self, text: str | bytes) -> tuple[str, str]:
        """Keep what a client says; returns what all are sent, and the answer."""
        said = json.loads(text)
        if said["type"] != "publish" or not 0 < len(said["msg"]) <= LONGEST:
            raise ValueError("this is no message")
        place = self._place("MSG", self._next)
        message = {
            **place,
            "msg": said["msg"],
            "sname": said["sname"],
            "channel": said["channel"],
            "time": int(time.time()),
        }
        self._next += 1
        self._history.append(message)
        return _text(**message), _text(**{**place, "type": "publish"})

    def _place(self, kind: str, seq: int) -> dict[str, Any]:
        return {"type": kind, "seqid": seq, "epoch": self._epoch}


def _text(**item: Any) -> str:
    item["id"] = f"{item['epoch']}:{item['seqid']}"
    return json.dumps([item], separators=(",", ":"))
