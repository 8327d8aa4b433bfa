"""What the tests of TLS shape: contexts of one version, a record by itself."""

from __future__ import annotations

import ssl

from greenpump.net.tls import SSLSocket


def only(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = version
    return context


def record(conn: SSLSocket, data: bytes) -> bytes:
    """The record of ``data``, not sent."""
    conn._sslobj.write(data)
    return conn._outgoing.read()
