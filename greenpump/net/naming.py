"""Addresses as people read them, in errors, logs and wait reasons."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["show"]


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
