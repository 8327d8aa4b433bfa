"""What is said in a channel, and what its subscribers are sent of it.

A ``Message`` is kept: it has a number in its channel. A ``Notice`` is only told to those who listen
at the moment. Both become an ``Item``, a JSON text with a position: who has read an item has read
everything up to there. A ``Batch`` is what is sent at once, encoded once for each transport,
however many read it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple


class Position(NamedTuple):
    """A place in a channel: after the message ``seq`` (-1: before the first) of one ``epoch``.

    The epoch names one life of the channel's history. When the history is lost or cleared the
    numbers begin anew in another epoch, so an old position is never mistaken for a new one.
    """

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """``epoch:seq``, as clients give it back. Raises ValueError."""
        found = _POSITION.fullmatch(text)
        if found is None:
            raise ValueError(f"not a position: {text!r}")
        return cls(found[1], int(found[2]))


_POSITION = re.compile(r"([0-9a-f]{1,16}):(-1|\d{1,16})", re.ASCII)


class Item(NamedTuple):
    """What a subscriber gets: a JSON object, and where that brings it to."""

    position: Position
    text: str


def make_item(kind: str, channel: str, position: Position, **more: Any) -> Item:
    """An item of ``kind``; ``type``, ``msg``, ``sname``, ``seqid`` and ``channel`` are CComet's."""
    content = {
        "type": kind,
        "msg": "",
        "sname": "",
        "seqid": position.seq,
        "channel": channel,
        "epoch": position.epoch,
        "id": str(position),
        "time": int(time.time()),
        **more,
    }
    return Item(position, json.dumps(content, separators=(",", ":")))


@dataclass(frozen=True)
class Message:
    """Something said: kept, and sent to every subscriber once.

    ``cid`` is an id that the client made, "" for none: said again with the same one, it is the same
    message. ``time`` is in seconds since 1970.
    """

    channel: str
    position: Position
    sname: str
    msg: str
    time: int
    cid: str = ""

    @cached_property
    def item(self) -> Item:
        more = {"cid": self.cid} if self.cid else {}
        return make_item(
            "MSG",
            self.channel,
            self.position,
            msg=self.msg,
            sname=self.sname,
            time=self.time,
            **more,
        )


@dataclass(frozen=True)
class Notice:
    """Something told to all nodes, and through them to those who listen now; it is not kept.

    SIGN: ``sname`` says hello. HERE: the node in ``data`` tells whom it has. CLEAR: the history is
    gone. CLOSE: the channel's subscribers are to leave.
    """

    channel: str
    kind: str
    sname: str = ""
    data: dict[str, Any] = field(default_factory=dict)


News = Message | Notice


class Batch:
    """Items on their way to many: each way to write them is used once.

    ``passing``: they are worth a look of who happens to look, but no answer to a poll.
    """

    def __init__(self, items: Sequence[Item], *, passing: bool = False) -> None:
        self.items = items
        self.passing = passing
        self._encoded: dict[Callable[[Sequence[Item]], bytes], bytes] = {}

    def encoded(self, encode: Callable[[Sequence[Item]], bytes]) -> bytes:
        data = self._encoded.get(encode)
        if data is None:
            data = self._encoded[encode] = encode(self.items)
        return data


def as_json(items: Sequence[Item]) -> str:
    """A JSON array of items."""
    return f"[{','.join(item.text for item in items)}]"
