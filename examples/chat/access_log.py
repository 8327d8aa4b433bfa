"""The access log: a line for each request, and for all that clients were refused besides.

The path is quoted, so that nobody can write lines of their own; of the query nothing is said, for
it may have a token.
"""

from __future__ import annotations

import logging
from urllib.parse import quote

from .http import Request

_log = logging.getLogger("chat.access")


def answered(request: Request, status: int | str, seconds: float) -> None:
    """A request was answered; ``status`` "waits": its connection rests, or became a stream."""
    if _log.isEnabledFor(logging.INFO):
        path = quote(request.path, safe="/", errors="replace")
        milliseconds = 1000 * seconds
        _log.info("%s %s %s %s %.1f ms", request.client, request.method, path, status, milliseconds)


def refused(client: str, what: str, status: int, reason: str) -> None:
    """Something that is no request was refused, or no whole one; in the server's own words."""
    _log.info("%s %s %d %s", client, what, status, reason)
