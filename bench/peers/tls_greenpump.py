"""greenpump: serve(tls=context) and a handler that receives and sends."""

from __future__ import annotations

import greenpump as gp
from bench.peers.server_tls import context
from greenpump.net.tls import SSLSocket


def run(port: int, recv_size: int, certificate: str, key: str) -> None:
    def echo(conn: SSLSocket, peer: object) -> None:
        while data := conn.recv(recv_size):
            conn.sendall(data)

    gp.serve(echo, ("127.0.0.1", port), tls=context(certificate, key))
