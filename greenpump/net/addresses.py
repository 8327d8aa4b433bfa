"""Names in addresses.

socket.socket takes names wherever it takes addresses and has the C library look them up, which
blocks the thread. So a name is replaced by its number here, before the C code sees it; all else,
faulty addresses included, goes to the C code as it came.
"""

from __future__ import annotations

import socket as _stdlib
from typing import Any

from .base import BaseSocket, _family, _type

_inet_pton = _stdlib.inet_pton
_IP = (int(_stdlib.AF_INET), int(_stdlib.AF_INET6))


def is_numeric(sock: BaseSocket, address: Any) -> bool:
    """Whether ``address`` is an IP address of the socket's family: the usual case, told quickly."""
    try:
        _inet_pton(_family(sock), address[0])
    except (OSError, TypeError, ValueError, LookupError):
        return False
    return True


def numeric(sock: BaseSocket, address: Any) -> Any:
    """``address`` with its host as a number. Parks while a name is looked up.

    Raises socket.gaierror when there is no such name.
    """
    if is_numeric(sock, address):
        return address
    family = _family(sock)
    if family not in _IP or not isinstance(address, tuple) or not address:
        return address
    host = address[0]
    if isinstance(host, (bytes, bytearray)):
        try:
            host = host.decode("ascii")
        except UnicodeDecodeError:
            return address
    if not isinstance(host, str) or host in ("", "<broadcast>") or "\0" in host:
        return address
    try:
        # Forms of a number that inet_pton doesn't know: 127.1, fe80::1%eth0.
        _stdlib.getaddrinfo(host, None, family, 0, 0, _stdlib.AI_NUMERICHOST)
        return address
    except UnicodeError:
        return address
    except _stdlib.gaierror:
        pass
    from .dns import resolve

    found = resolve(host, None, family, _type(sock), 0, 0)[0][4]
    if family == _stdlib.AF_INET6 and len(address) == 2:
        return (found[0], address[1], 0, found[3])  # with the scope of a link-local address
    return (found[0], *address[1:])
