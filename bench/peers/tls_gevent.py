"""gevent: StreamServer(ssl_context=) and a handler that receives and sends."""

from __future__ import annotations

import socket

import gevent.ssl
from gevent.server import StreamServer


def run(port: int, recv_size: int, certificate: str, key: str) -> None:
    def echo(conn: gevent.ssl.SSLSocket, peer: object) -> None:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := conn.recv(recv_size):
            conn.sendall(data)

    context = gevent.ssl.SSLContext(gevent.ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = gevent.ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    address = ("127.0.0.1", port)
    StreamServer(address, echo, backlog=socket.SOMAXCONN, ssl_context=context).serve_forever()
