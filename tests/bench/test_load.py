"""The load generator against servers of a few lines: it counts right, and takes no wrong echo."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import build
from bench.certificate import certificate
from bench.load import Load, held, merged, per_message, run_together
from bench.outcome import FailedError, MissingError

pytestmark = pytest.mark.usefixtures("gcc")

Answer = Callable[[bytes], bytes]


@contextmanager
def server(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serves each connection in a thread, and waits for all of them at the end; yields the port."""

    def serve(conn: socket.socket) -> None:
        with conn:
            try:
                if tls is not None:
                    conn = tls.wrap_socket(conn, server_side=True)
                while (data := conn.recv(65536)) and (reply := answer(data)):
                    conn.sendall(reply)
            except (ConnectionError, ssl.SSLError):
                return  # the generator hangs up on who is wrong, or whom it does not trust
            finally:
                conn.close()

    def accept() -> None:
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:  # shut down
                return
            threads.append(threading.Thread(target=serve, args=(conn,)))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads: list[threading.Thread] = []
        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for thread in threads:
                thread.join()


def test_a_thousand_messages_are_sent_verified_and_counted() -> None:
    with server(lambda data: data) as port:
        load = Load(port, 4, warmup=0, seconds=30, messages=1000, pids=[os.getpid()])
        report = load.run()
    assert report["messages"] == 1000
    # Beside them only each connection's first message and its last.
    assert 1000 <= report["total_messages"] <= 1000 + 4 + 4
    assert report["errors"] == 0
    assert 0 < report["p50_us"] <= report["p99_us"] <= report["max_us"] * 1.02
    assert report["cpu_ns"] > 0
    assert report["seconds"] < 30
    sample = per_message(report)
    assert sample["cpu_us"] == pytest.approx(report["cpu_ns"] / 1e6)
    assert sample["throughput"] == pytest.approx(1000 / report["seconds"])


def test_messages_larger_than_the_buffers_arrive_whole() -> None:
    with server(lambda data: data) as port:
        report = Load(port, 2, size=1_000_000, warmup=0, seconds=30, messages=5).run()
    assert report["messages"] == 5


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "wrong bytes in the echo"),
        (lambda data: data[::-1], "wrong bytes in the echo"),
        (lambda data: data + b"!", "wrong bytes|bytes that nobody sent"),
        (lambda data: b"", "the server closed after 0 of 64 bytes"),
    ],
    ids=["a bit", "order", "too much", "nothing"],
)
def test_a_wrong_echo_is_an_error(answer: Answer, complaint: str) -> None:
    with server(answer) as port:
        load = Load(port, 2, warmup=0, seconds=0.1)
        with pytest.raises(FailedError, match=complaint):
            load.run()


def test_yesterdays_echo_is_an_error() -> None:
    """Right in length, and right for the message before."""
    last = b"?" * 64

    def late(data: bytes) -> bytes:
        nonlocal last
        last, reply = data, last
        return reply

    with server(late) as port:
        load = Load(port, 1, warmup=0, seconds=0.1)
        with pytest.raises(FailedError, match="wrong bytes"):
            load.run()


def test_nobody_listening_is_an_error() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        load = Load(reserved.getsockname()[1], 3, warmup=0, seconds=0.1)
        with pytest.raises(FailedError, match="on 1 of 3 connections: connect: Connection refused"):
            load.run()


def test_held_connections_have_been_answered_and_stay_open() -> None:
    answered = 0

    def count(data: bytes) -> bytes:
        nonlocal answered
        answered += 1
        return data

    with server(count) as port, held(Load(port, 3)):
        assert answered == 3


def test_held_connections_are_asked_again() -> None:
    answered = 0

    def count(data: bytes) -> bytes:
        nonlocal answered
        answered += 1
        return data

    with server(count) as port, held(Load(port, 3)) as holding:
        holding.ask()
        assert answered == 6
        holding.ask()
        assert answered == 9


def test_a_held_connection_that_is_not_answered_again_is_an_error() -> None:
    left = 3

    def tire(data: bytes) -> bytes:
        nonlocal left
        left -= 1
        return data if left >= 0 else b""

    complaint = "1 of 2 connections: the server closed after 0 of"
    with (
        server(tire) as port,
        held(Load(port, 2)) as holding,
        pytest.raises(FailedError, match=complaint),
    ):
        holding.ask()


# -- several generators --------------------------------------------------------------------------


def test_together_none_starts_before_all_have_opened() -> None:
    answered = 0
    opened, started = threading.Event(), threading.Event()
    early: list[bool] = []

    def first(data: bytes) -> bytes:
        nonlocal answered
        answered += 1
        if answered == 3:
            opened.set()
        elif answered == 4:
            started.set()
        return data

    def second(data: bytes) -> bytes:
        if not early:
            assert opened.wait(30)
            early.append(started.wait(0.05))
        return data

    with server(first) as port, server(second) as other:
        reports = run_together(
            [
                Load(port, 3, warmup=0, seconds=30, messages=100),
                Load(other, 1, warmup=0, seconds=30, messages=100),
            ]
        )
    assert early == [False]
    assert [report["messages"] for report in reports] == [100, 100]


def test_together_one_that_fails_keeps_nobody_waiting() -> None:
    with socket.socket() as reserved, server(lambda data: data) as port:
        reserved.bind(("127.0.0.1", 0))
        loads = [Load(port, 2, warmup=0, seconds=0.1)]
        loads.append(Load(reserved.getsockname()[1], 3, warmup=0, seconds=0.1))
        with pytest.raises(FailedError, match="Connection refused"):
            run_together(loads)


def test_reports_merge_into_one_that_none_of_them_is_worse_than() -> None:
    one = {"messages": 10, "cpu_ns": 1, "load_cpu_ns": 5, "seconds": 2.0, "p50_us": 3, "p99_us": 9}
    two = {"messages": 20, "cpu_ns": 2, "load_cpu_ns": 6, "seconds": 1.9, "p50_us": 4, "p99_us": 8}
    sums = {"messages": 30, "cpu_ns": 3, "load_cpu_ns": 11}
    assert merged([one, two]) == sums | {"seconds": 2.0, "p50_us": 4, "p99_us": 9}


# -- storms: a connection for each message -----------------------------------------------------


def test_a_storm_has_every_message_on_a_connection_of_its_own() -> None:
    received: list[int] = []  # on each connection, in the order they ended

    def one_connection(conn: socket.socket) -> None:
        with conn:
            count = 0
            while data := conn.recv(100):
                count += 1
                conn.sendall(data)
        received.append(count)

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:

        def serve() -> None:
            while True:
                try:
                    conn, _ = listener.accept()
                except OSError:  # shut down
                    return
                one_connection(conn)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            load = Load(
                listener.getsockname()[1], 4, warmup=0, seconds=30, messages=300, storm=True
            )
            report = load.run()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert report["messages"] == 300
    assert received == [1] * report["total_messages"]
    assert 0 < report["p50_us"] <= report["p99_us"]


def test_a_wrong_answer_in_a_storm_is_an_error() -> None:
    with server(lambda data: data[::-1]) as port:
        load = Load(port, 2, warmup=0, seconds=0.1, storm=True)
        with pytest.raises(FailedError, match="wrong bytes in the echo"):
            load.run()


def test_a_storm_that_nobody_listens_to_is_an_error() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        load = Load(reserved.getsockname()[1], 3, warmup=0, seconds=0.1, storm=True)
        with pytest.raises(FailedError, match="Connection refused"):
            load.run()


# -- UDP ------------------------------------------------------------------------------------------


@contextmanager
def datagram_server(answer: Answer) -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                data, peer = sock.recvfrom(65536)
                if data == b"end":
                    return
                sock.sendto(answer(data), peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"end", sock.getsockname())
            thread.join()


def test_datagrams_are_sent_verified_and_counted() -> None:
    with datagram_server(lambda data: data) as port:
        report = Load(port, 4, size=1000, warmup=0, seconds=30, messages=500, udp=True).run()
    assert report["messages"] == 500


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda data: data[::-1], "wrong bytes in the echo"),
        (lambda data: data + b"!", "a datagram of 65 bytes, not 64"),
        (lambda data: data[1:], "wrong bytes|a datagram of 63 bytes, not 64"),
        (lambda data: b"", "a datagram of 0 bytes, not 64"),
    ],
    ids=["order", "too long", "too short", "empty"],
)
def test_a_wrong_datagram_is_an_error(answer: Answer, complaint: str) -> None:
    with datagram_server(answer) as port:
        load = Load(port, 1, warmup=0, seconds=0.1, udp=True)
        with pytest.raises(FailedError, match=complaint):
            load.run()


# -- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def authority(require: Callable[[str, object, str], None]) -> Path:
    require("openssl", shutil.which("openssl"), "apt-get install openssl")
    try:
        build.binary("loadgen", ["ssl", "crypto"], needs="libssl-dev", define=["TLS"])
    except MissingError as error:
        require(error.what, None, error.install)
    return certificate()[0]


@pytest.fixture
def context(authority: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(authority)
    return made


@pytest.mark.parametrize("size", [1, 64, 16384, 300_000])
def test_over_tls_every_byte_comes_back(
    size: int, authority: Path, context: ssl.SSLContext
) -> None:
    with server(lambda data: data, context) as port:
        load = Load(port, 3, size=size, warmup=0, seconds=30, messages=20, certificate=authority)
        assert load.run()["messages"] == 20


def test_over_tls_a_wrong_echo_is_an_error(authority: Path, context: ssl.SSLContext) -> None:
    with server(lambda data: data[::-1], context) as port:
        load = Load(port, 1, warmup=0, seconds=0.1, certificate=authority)
        with pytest.raises(FailedError, match="wrong bytes in the echo"):
            load.run()


def test_a_server_with_another_certificate_is_not_trusted(
    authority: Path, context: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.certificate.BUILD", tmp_path)
    other, _ = certificate()
    assert other.read_bytes() != authority.read_bytes()
    with server(lambda data: data, context) as port:
        load = Load(port, 1, warmup=0, seconds=0.1, certificate=other)
        with pytest.raises(FailedError, match="no TLS handshake: certificate verify failed"):
            load.run()


def test_a_certificate_is_made_once_and_renewed_when_old(
    authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.certificate.BUILD", tmp_path)
    path, key = certificate()
    first = path.read_bytes()
    assert key == path
    assert certificate()[0].read_bytes() == first
    os.utime(path, (0, 0))
    assert certificate()[0].read_bytes() != first
