"""serve(tls=) and connect(tls=): handshakes in tasks of their own, and clients that spoil them."""

from __future__ import annotations

import logging
import os
import random
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub.spawning import current, spawn
from greenpump.hub.task import Task
from greenpump.net.connect import connect
from greenpump.net.listen import listen
from greenpump.net.serve import serve
from greenpump.net.socket import Socket
from greenpump.net.tls import SSLSocket
from greenpump.testing import virtual_clock, wait_all_parked
from tests.net.tls.certificates import Certificates


def echo(conn: SSLSocket, peer: Any) -> None:
    while data := conn.recv(4096):
        conn.sendall(data)


class Running:
    """A TLS server in a task of its own."""

    def __init__(self, handler: Any, certificates: Certificates, **options: Any) -> None:
        self.certificates = certificates
        self.address: Any = None
        listener = listen(("127.0.0.1", 0))
        self.address = listener.getsockname()
        options.setdefault("tls", certificates.server())
        self.task: Task[None] = spawn(serve, handler, listener, **options)

    def connect(self, **options: Any) -> SSLSocket:
        conn: SSLSocket = connect(self.address, tls=self.certificates.client(), **options)
        return conn

    def plain(self) -> Socket:
        return connect(self.address)


@pytest.fixture
def start(certificates: Certificates) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def begin(handler: Any = echo, **options: Any) -> Running:
        running.append(Running(handler, certificates, **options))
        return running[-1]

    yield begin
    for server in running:
        server.task.cancel()
        server.task.join()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, "greenpump.serve")
    return lambda: [record.getMessage() for record in caplog.records]


Start = Callable[..., Running]
Said = Callable[[], list[str]]


def test_the_handler_gets_a_secure_connection(start: Start) -> None:
    seen: list[Any] = []

    def handler(conn: SSLSocket, peer: Any) -> None:
        seen.append((type(conn), conn.version(), peer, current().name))
        echo(conn, peer)

    with start(handler).connect() as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"hello"
        assert client.server_hostname == "127.0.0.1"
        assert client.nodelay
        [(kind, version, peer, name)] = seen
        assert (kind, version, peer) == (SSLSocket, "TLSv1.3", client.getsockname())
        assert name.endswith(f"handler 127.0.0.1:{peer[1]}")


def test_the_connection_is_closed_when_the_handler_ends(start: Start) -> None:
    conns: list[SSLSocket] = []

    def handler(conn: SSLSocket, peer: Any) -> None:
        conns.append(conn)

    with start(handler).connect(timeout=10) as client:
        assert client.recv(1) == b""
    assert conns[0].fileno() == -1


def test_a_detached_connection_stays(start: Start) -> None:
    def later(conn: SSLSocket) -> None:
        conn.sendall(conn.recv(100))
        conn.close()

    with start(lambda conn, peer: conn.detach_until_readable(later)).connect() as client:
        wait_all_parked()
        client.sendall(b"still here")
        assert client.recv(100) == b"still here"
        assert client.recv(1) == b""


def test_a_client_that_never_shakes_hands_delays_nobody(start: Start, said: Said) -> None:
    with virtual_clock() as clock:
        server = start(handshake_timeout=3)
        with server.plain() as silent, server.connect() as client:
            client.sendall(b"hello")
            assert client.recv(10) == b"hello"
            clock.advance(3)
            assert silent.recv(1) == b""
            me = silent.getsockname()
            assert said() == [f"127.0.0.1:{me[1]}: TLS handshake failed: not done within 3 s"]


def spoil_by_garbage(sock: Socket) -> None:
    sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    while sock.recv(100):
        pass


def spoil_by_reset(sock: Socket) -> None:
    sock.sendall(b"\x16\x03\x01")
    sock.abort()


def spoil_by_end(sock: Socket) -> None:
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(100):  # an alert
        pass


def spoil_by_half_an_end(sock: Socket) -> None:
    sock.sendall(b"\x16\x03\x01\x02\x00\x01")
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(100):
        pass


@pytest.mark.parametrize(
    "spoil", [spoil_by_garbage, spoil_by_reset, spoil_by_end, spoil_by_half_an_end]
)
def test_clients_that_spoil_the_handshake(
    start: Start, said: Said, spoil: Callable[[Socket], None]
) -> None:
    server = start()
    with server.plain() as bad:
        me = bad.getsockname()
        spoil(bad)
    wait_all_parked()
    [told] = said()
    assert told.startswith(f"127.0.0.1:{me[1]}: TLS handshake failed: ")
    with server.connect() as client:
        client.sendall(b"well")
        assert client.recv(10) == b"well"


@pytest.mark.parametrize("seed", range(30))
def test_noise_in_the_middle(start: Start, seed: int) -> None:
    """A man in the middle who flips, drops, repeats, cuts: an error or an end, and no harm."""
    chance = random.Random(seed)
    problems: list[BaseException] = []

    def handler(conn: SSLSocket, peer: Any) -> None:
        try:
            echo(conn, peer)
        except OSError as error:
            problems.append(error)

    server = start(handler)
    middle = listen(("127.0.0.1", 0))

    def pump(source: Socket, target: Socket) -> None:
        try:
            while data := source.recv(chance.choice((7, 300, 5000))):
                if chance.random() < 0.3:
                    data = chance.choice(
                        (
                            lambda d: d[1:],
                            lambda d: d + d,
                            lambda d: bytes([d[0] ^ 1]) + d[1:],
                            lambda d: d[:-1] + bytes([d[-1] ^ 0x80]),
                            lambda d: os.urandom(len(d)),
                        )
                    )(data)
                if chance.random() < 0.05:
                    break
                target.sendall(data)
        except OSError:
            pass
        source.close()
        target.close()

    def between() -> None:
        near, _ = middle.accept()
        far = server.plain()
        pumps = [spawn(pump, near, far), spawn(pump, far, near)]
        for each in pumps:
            each.join()

    def talk() -> None:
        try:
            with connect(middle.getsockname(), 1, tls=server.certificates.client()) as client:
                client.settimeout(1)
                for size in (1, 100, 5000, 40_000):
                    client.sendall(bytes(size))
                    assert client.recv_exactly(size) == bytes(size)
        except (OSError, EOFError):
            pass

    with virtual_clock() as clock:
        task = spawn(between)
        talking = spawn(talk)
        while not talking.done:
            wait_all_parked()
            clock.advance(1)
        talking.result()
        task.join()
    middle.close()
    with server.connect() as client:
        client.sendall(b"well")
        assert client.recv(10) == b"well"


def test_connect_says_whom_it_could_not_trust(start: Start) -> None:
    server = start()
    with pytest.raises(
        ssl.SSLCertVerificationError, match=f"handshake with 127.0.0.1:{server.address[1]}"
    ):
        connect(server.address, tls=True)
    with pytest.raises(ssl.SSLCertVerificationError, match="example"):
        server.connect(server_hostname="example.com")
    with server.connect(server_hostname="localhost") as client:
        assert client.server_hostname == "localhost"


def test_connect_limits_the_handshake_too() -> None:
    with listen(("127.0.0.1", 0)) as silent, virtual_clock() as clock:
        task = spawn(connect, silent.getsockname(), 5, tls=True)
        while not clock.now() or not task.done:
            wait_all_parked()
            clock.advance(5)
            wait_all_parked()
        with pytest.raises(TimeoutError, match="connected, but the TLS handshake was not done"):
            task.result()
        silent.accept()[0].close()


def test_what_is_no_context(certificates: Certificates) -> None:
    wrong: Any = "cert.pem"
    with pytest.raises(TypeError, match="SSLContext"):
        gp.serve(echo, ("127.0.0.1", 0), tls=wrong)
    with pytest.raises(TypeError, match="SSLContext"):
        connect(("127.0.0.1", 1), tls=wrong)
    name: Any = "localhost"
    with pytest.raises(ValueError, match="tls=True"):
        connect(("127.0.0.1", 1), server_hostname=name)
    with pytest.raises(ValueError, match="negative"):
        gp.serve(echo, ("127.0.0.1", 0), tls=certificates.server(), handshake_timeout=-1)
