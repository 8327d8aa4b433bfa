"""Secured: what ``serve(tls=)`` puts before the handler of a connection."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from typing import Any

from ...hub.interrupt import calls_user_code
from ...hub.scope import move_on_after
from ..naming import show
from ..socket import Socket
from .socket import SSLSocket

__all__ = ["Secured"]

log = logging.getLogger("greenpump.serve")


class Secured:
    """A handler of plain connections that calls ``handler(conn, peer)`` with TLS ones."""

    def __init__(
        self, handler: Callable[[Any, Any], object], context: ssl.SSLContext, seconds: float
    ) -> None:
        self._handler = handler
        self._context = context
        self._seconds = seconds
        self.__qualname__ = getattr(handler, "__qualname__", None) or type(handler).__name__

    @calls_user_code
    def __call__(self, plain: Socket, peer: Any) -> None:
        conn = self._shaken(plain, peer)
        if conn is None:
            return
        try:
            self._handler(conn, peer)
        finally:
            if not conn.detached:
                conn.close()

    def _shaken(self, plain: Socket, peer: Any) -> SSLSocket | None:
        """The connection with its handshake done; None when the client failed it."""
        problem: object = None
        with move_on_after(self._seconds) as limit:
            try:
                return SSLSocket._create(plain, server_side=True, context=self._context)
            except (OSError, ValueError) as error:
                problem = error
        if limit.expired:
            problem = f"not done within {self._seconds:g} s"
        log.info("%s: TLS handshake failed: %s", show(peer), problem)
        return None
