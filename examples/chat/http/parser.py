"""The parser: bytes in, complete requests out, nothing waited for.

httptools (llhttp, Node's parser, in C) where it has a wheel; h11, in Python, elsewhere.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from .message import HttpError, Request


class Parser(Protocol):
    """A connection's parser."""

    complete: deque[Request]
    """The requests that have arrived in full, oldest first."""
    error: HttpError | None
    """Set when what came after the last complete request can't be understood: there is no next."""
    rest: bytes
    """What came after a request that asks for another protocol."""

    @property
    def started(self) -> bool:
        """Whether a part of the next request is here."""

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits for ``100 Continue`` before it sends the body."""

    def feed(self, data: bytes) -> None:
        """Take what was received."""


def new_parser() -> Parser:
    """The best parser that is installed."""
    try:
        from .httptools_parser import HttptoolsParser
    except ImportError:
        from .h11_parser import H11Parser

        return H11Parser()
    return HttptoolsParser()
