"""Addresses as people write them, and read them in errors, logs and wait reasons."""

from __future__ import annotations

import os
import re
from typing import Any, Final

__all__ = ["show", "unix_path"]

_HOST_AND_PORT: Final = re.compile(r"([^/\0]*):(\d+)")


def unix_path(addr: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> str | bytes:
    """The path of a unix socket, for those who take ``(host, port)``, too. Doesn't park.

    Raises ValueError for what has the form host:port: elsewhere that means TCP (gevent's servers,
    Go's net.Listen), and here it would quietly make a file of that name.
    """
    path = os.fspath(addr)
    if isinstance(addr, (str, bytes)) and (found := _HOST_AND_PORT.fullmatch(os.fsdecode(path))):
        host, port = found.groups()
        raise ValueError(
            f"{addr!r} is the path of a unix socket: for TCP say ({host.strip('[]')!r}, {port}), "
            f"for that path './{host}:{port}'"
        )
    return path


def show(address: Any) -> str:
    """``192.0.2.1:80``, ``[::1]:80``, ``unix:/run/x.sock``, ``unix:@abstract``. Doesn't park."""
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[:2]
        if isinstance(host, bytes):
            host = host.decode("ascii", "backslashreplace")
        return f"[{host}]:{port}" if ":" in str(host) else f"{host or '*'}:{port}"
    if isinstance(address, (str, bytes)):
        path = os.fsdecode(address)
        if not path:
            return "unix:(unnamed)"
        return f"unix:@{path[1:]}" if path[0] == "\0" else f"unix:{path}"
    return repr(address)
