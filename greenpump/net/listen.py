"""listen and socketpair: first sketch."""

from __future__ import annotations

import socket as _stdlib

from .socket import Socket


def listen(addr: tuple[str, int], backlog: int = 4096) -> Socket:
    """A listening TCP socket."""
    listener = Socket(_stdlib.AF_INET, _stdlib.SOCK_STREAM)
    listener.setsockopt(_stdlib.SOL_SOCKET, _stdlib.SO_REUSEADDR, 1)
    listener.bind(addr)
    listener.listen(backlog)
    return listener


def socketpair() -> tuple[Socket, Socket]:
    """Two connected unix stream sockets."""
    a, b = _stdlib.socketpair()
    return (
        Socket(a.family, a.type, a.proto, fileno=a.detach()),
        Socket(b.family, b.type, b.proto, fileno=b.detach()),
    )
