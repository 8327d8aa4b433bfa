"""SSLContext, and TLS over a socket that is there already."""

from __future__ import annotations

import socket as _stdlib
import ssl
from typing import Any

from .socket import SSLSocket

__all__ = ["SSLContext", "create_default_context", "wrap_socket"]


class SSLContext(ssl.SSLContext):
    """An ``ssl.SSLContext`` whose ``wrap_socket`` makes cooperative connections.

    ``serve(tls=)``, ``connect(tls=)`` and ``wrap_socket`` take any ``ssl.SSLContext``; this class
    is for code that calls ``context.wrap_socket`` itself. A ``sni_callback`` gets the SSLSocket,
    and may park.
    """

    sslsocket_class = SSLSocket


def create_default_context(
    purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH,
    *,
    cafile: Any = None,
    capath: Any = None,
    cadata: Any = None,
) -> SSLContext:
    """``ssl.create_default_context`` that returns an SSLContext of this module. Doesn't park.

    Reading certificates blocks the thread: make contexts when the program starts.
    """
    context = ssl.create_default_context(purpose, cafile=cafile, capath=capath, cadata=cadata)
    context.__class__ = SSLContext
    assert isinstance(context, SSLContext)
    return context


def wrap_socket(
    sock: _stdlib.socket,
    context: ssl.SSLContext,
    *,
    server_side: bool = False,
    do_handshake_on_connect: bool = True,
    suppress_ragged_eofs: bool = True,
    server_hostname: str | bytes | None = None,
    session: ssl.SSLSession | None = None,
) -> SSLSocket:
    """Go on over TLS on a connected ``sock``, whose fd and timeout the SSLSocket takes over.

    The parameters are those of ``ssl.SSLContext.wrap_socket``, with any context. Parks for the
    handshake, unless ``do_handshake_on_connect`` is off. Raises ssl.SSLError, OSError, ValueError;
    the connection is closed then.
    """
    return SSLSocket._create(
        sock,
        server_side,
        do_handshake_on_connect,
        suppress_ragged_eofs,
        server_hostname,
        context,
        session,
    )
