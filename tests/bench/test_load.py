"""The load generator against servers of a few lines: it counts right, and takes no wrong echo."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bench.load import Load, held, per_message
from bench.outcome import FailedError

pytestmark = pytest.mark.usefixtures("gcc")

Answer = Callable[[bytes], bytes]


@contextmanager
def server(answer: Answer) -> Iterator[int]:
    """Serves each connection in a thread, and waits for all of them at the end; yields the port."""

    def serve(conn: socket.socket) -> None:
        with conn:
            try:
                while (data := conn.recv(65536)) and (reply := answer(data)):
                    conn.sendall(reply)
            except ConnectionError:
                return  # the generator hangs up on who is wrong

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
