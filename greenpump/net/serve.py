"""serve: first sketch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..hub.spawning import spawn
from .listen import listen
from .socket import Socket


def serve(handler: Callable[[Socket, Any], object], addr: tuple[str, int]) -> None:
    """Accept for ever and spawn ``handler(conn, peer)`` for each connection."""
    listener = listen(addr)
    while True:
        conn, peer = listener.accept()
        spawn(_handle, handler, conn, peer)


def _handle(handler: Callable[[Socket, Any], object], conn: Socket, peer: Any) -> None:
    with conn:
        handler(conn, peer)
