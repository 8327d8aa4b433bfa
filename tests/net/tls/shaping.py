"""What the tests of TLS shape: contexts of one version, a record by itself, answers."""

from __future__ import annotations

import ssl
from typing import Any

from greenpump.net.tls import SSLSocket


def only(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = version
    return context


def record(conn: SSLSocket, data: bytes) -> bytes:
    """The record of ``data``, not sent."""
    conn._sslobj.write(data)
    return conn._outgoing.read()


class Answering:
    """OpenSSL's object, of which each read that finds something makes an answer, too.

    As a key update of the peer's does, but one that the peer can see: it decrypts ``answer``.
    """

    def __init__(self, conn: SSLSocket, answer: bytes) -> None:
        self.real = conn._sslobj
        self.answer = answer
        conn._sslobj = self

    def read(self, *args: Any) -> Any:
        data = self.real.read(*args)
        self.real.write(self.answer)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)
