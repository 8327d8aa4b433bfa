"""The standard library: a thread for each connection, blocking in recv and sendall."""

from __future__ import annotations

import socket
import ssl
import threading

from bench.peers.server_tls import context


def run(port: int, recv_size: int, certificate: str, key: str) -> None:
    secure = context(certificate, key)

    def serve(plain: socket.socket) -> None:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with secure.wrap_socket(plain, server_side=True) as conn:
                while data := conn.recv(recv_size):
                    conn.sendall(data)
        except (ConnectionError, ssl.SSLError):
            pass  # it went without a handshake, or without a farewell

    server = socket.create_server(("127.0.0.1", port), backlog=socket.SOMAXCONN)
    while True:
        conn, _ = server.accept()
        threading.Thread(target=serve, args=(conn,), daemon=True).start()
