"""Fields: what clients send in a query or in JSON, checked, or refused with the field's name."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from math import isinf

from .http import HttpError
from .limits import Limits
from .message import Position

MAX_SEQID = 2**53
"""What JavaScript can count to."""
_CID = re.compile(r"[\w.-]{1,64}", re.ASCII)


class Fields:
    """The fields of one request or frame. Every method raises HttpError (400)."""

    def __init__(self, values: Mapping[str, object], limits: Limits) -> None:
        self.values = values
        self._limits = limits

    @classmethod
    def of_json(cls, text: str | bytes, limits: Limits) -> Fields:
        try:
            values = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        except (ValueError, RecursionError):
            raise HttpError(400, "this is not JSON") from None
        if not isinstance(values, dict):
            raise HttpError(400, "this is not a JSON object")
        return cls(values, limits)

    @property
    def channel(self) -> str:
        return self._text("channel", self._limits.name)

    @property
    def sname(self) -> str:
        return self._text("sname", self._limits.name)

    @property
    def sname_or_none(self) -> str:
        """The name, "" for who has none."""
        return self.sname if "sname" in self.values else ""

    @property
    def msg(self) -> str:
        return self._text("msg", self._limits.message, allowed="\n\t\r")

    @property
    def cid(self) -> str:
        """The id that the client made for a message; "" for none."""
        cid = self.values.get("cid", "")
        if not isinstance(cid, str) or (cid and not _CID.fullmatch(cid)):
            raise HttpError(400, "cid is not an id: 1 to 64 letters, digits, '.', '_', '-'")
        return cid

    @property
    def token(self) -> str:
        token = self.values.get("token", "")
        return token if isinstance(token, str) else ""

    @property
    def since(self) -> Position | None:
        """The position to go on from, if the client knows one."""
        since = self.values.get("since")
        if since is None:
            return None
        try:
            return Position.parse(since if isinstance(since, str) else "")
        except ValueError:
            raise HttpError(400, "since is not the id of an item") from None

    def number(self, key: str, limit: int, default: int | None = None) -> int:
        """A number from 0 to ``limit``; a larger one counts as ``limit``."""
        value = self.values.get(key, default)
        text = value if isinstance(value, str) else str(value)
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(limit))):
            raise HttpError(400, f"{key} is not a number from 0 to {limit}")
        return min(int(text), limit)

    def _text(self, key: str, limit: int, allowed: str = "") -> str:
        """A field of text: Unicode that can be sent on, printable, neither empty nor too long."""
        text = self.values.get(key)
        if not isinstance(text, str):
            raise HttpError(400, f"{key} is missing or not a text")
        text = text.strip()
        if not text:
            raise HttpError(400, f"{key} is empty")
        if len(text) > limit:
            raise HttpError(400, f"{key} is longer than {limit} characters")
        for character in text:
            # Control characters, and halves of surrogate pairs, which no encoding can carry.
            if character not in allowed and unicodedata.category(character) in ("Cc", "Cs"):
                raise HttpError(400, f"{key} contains U+{ord(character):04X}")
        return text


def _finite(text: str) -> float:
    """A number that is not too large for one: what JSON can't say can't be said back."""
    number = float(text)
    if isinf(number):
        raise ValueError(text)
    return number


def _no_constant(name: str) -> float:
    """NaN and Infinity, which Python takes for JSON and browsers don't."""
    raise ValueError(name)
