"""``python -m examples.echo``: a real server, TCP and UDP."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
ECHO = [sys.executable, "-X", "dev", "-W", "error", "-m", "examples.echo"]


class EchoServer:
    """The example in a process of its own, on a free port. It must end in order, by Ctrl-C."""

    def __init__(self, *options: str) -> None:
        self.options = options

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [*ECHO, "--port", "0", *self.options],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        said = re.fullmatch(r"echo on 127\.0\.0\.1 port (\d+)\n", self.process.stdout.readline())
        assert said is not None
        self.address = ("127.0.0.1", int(said[1]))
        return self

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, PATIENCE)

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.interrupt()
            self.rest, errors = self.process.communicate(timeout=PATIENCE)
        finally:
            self.process.kill()
            self.process.communicate()
        assert (self.process.returncode, errors) == (0, "")


@pytest.fixture
def server() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


def read_all(client: socket.socket) -> bytes:
    pieces = []
    while piece := client.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def test_what_many_clients_say_at_once_comes_back_to_each(server: EchoServer) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(100)]
        for number, client in enumerate(clients):
            client.sendall(b"%d " % number)
        for client in clients:
            client.sendall(b"and more")
            client.shutdown(socket.SHUT_WR)
        for number, client in enumerate(clients):
            assert read_all(client) == b"%d and more" % number


def test_more_than_the_buffers_hold_comes_back_whole(server: EchoServer) -> None:
    message = os.urandom(1 << 20)
    with server.connect() as client:
        client.setblocking(False)
        sent, back = 0, b""
        while len(back) < len(message):
            try:
                sent += client.send(message[sent : sent + 65536])
            except BlockingIOError:
                pass
            try:
                back += client.recv(65536)
            except BlockingIOError:
                pass
        assert back == message
        mine = client.getsockname()
    assert server.line() == f"{mine}: {len(message)} bytes"


def test_datagrams_come_back_to_their_sender(server: EchoServer) -> None:
    with ExitStack() as stack:
        clients = []
        for _ in range(2):
            client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            client.settimeout(PATIENCE)
            clients.append(client)
        for number, client in enumerate(clients):
            client.sendto(b"from %d" % number, server.address)
        for size in (0, 1, 60_000):
            for number, client in enumerate(clients):
                if not size:
                    assert client.recvfrom(100) == (b"from %d" % number, server.address)
                client.sendto(bytes([number]) * size, server.address)
                assert client.recvfrom(65535) == (bytes([number]) * size, server.address)


def test_a_reset_ends_its_connection_alone(server: EchoServer) -> None:
    with server.connect() as steady:
        with server.connect() as client:
            mine = client.getsockname()
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert server.line() == f"{mine}: [Errno 104] Connection reset by peer"
        assert server.line() == f"{mine}: 1 bytes"
        steady.sendall(b"still here")
        assert steady.recv(100) == b"still here"


def test_who_is_silent_is_sent_away() -> None:
    with EchoServer("--silence", "0.01") as server, server.connect() as client:
        assert client.recv(1) == b""
        assert "timed out: recv on fd" in server.line()


def test_ctrl_c_lets_the_connected_finish() -> None:
    with EchoServer() as server, server.connect() as client:
        client.sendall(b"one")
        assert client.recv(3) == b"one"
        server.interrupt()
        # Its datagrams end with it, but no earlier than the last connection.
        client.sendall(b"two")
        assert client.recv(3) == b"two"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        assert server.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("options", [("--processes", "2"), ("--hubs", "2")], ids=" ".join)
def test_on_two_cores(options: tuple[str, str]) -> None:
    with EchoServer(*options) as server, ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(20)]
        for number, client in enumerate(clients):
            client.sendall(b"%d" % number)
        for number, client in enumerate(clients):
            assert client.recv(10) == b"%d" % number


def test_a_port_in_use_is_said_and_not_raised(server: EchoServer) -> None:
    done = subprocess.run(
        [*ECHO, "--port", str(server.address[1])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert "Address already in use: can't listen on 127.0.0.1:" in done.stderr
    assert "Traceback" not in done.stderr
