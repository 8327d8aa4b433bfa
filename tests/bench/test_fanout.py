"""The chat's load generator against a chat of a few lines: nothing wrong passes for right."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from bench.fanout import Fanout
from bench.load import held
from bench.outcome import FailedError

pytestmark = pytest.mark.usefixtures("gcc")

Items = Callable[[int, str], list[tuple[int, str]]]
"""What the subscribers get (numbers and texts) of a message and its number."""
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


def frame(*items: tuple[int, str], kind: str = "MSG") -> bytes:
    content = [{"type": kind, "msg": text, "id": f"ab:{seq}"} for seq, text in items]
    payload = json.dumps(content, separators=(",", ":")).encode()
    size = len(payload)
    return b"\x81" + (bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2)) + payload


@contextmanager
def chat(items: Items, cut: int = 0, left_out: int = 0) -> Iterator[int]:
    """Serves each connection in a thread; yields the port. Frames are sent in two parts.

    So many subscribers get nothing.
    """
    subscribers: list[socket.socket] = []
    lock = threading.Lock()
    said = 0

    def publish(text: str) -> None:
        nonlocal said
        with lock:
            data = b"".join(frame(item) for item in items(said, text))
            said += 1
            for part in (data[:cut], data[cut:]):
                for subscriber in subscribers[left_out:] if part else ():
                    subscriber.sendall(part)

    def serve(conn: socket.socket) -> None:
        with conn, conn.makefile("rb") as reader:
            target = reader.readline()
            while reader.readline() != b"\r\n":
                pass
            conn.sendall(SWITCHED)
            if b"channel" in target:
                with lock:
                    subscribers.append(conn)
                    conn.sendall(frame((-1, ""), kind="HELLO"))
            try:
                while head := reader.read(2):
                    size = head[1] & 127
                    if size == 126:
                        size = int.from_bytes(reader.read(2))
                    assert reader.read(4) == bytes(4), "the mask"
                    publish(json.loads(reader.read(size))["msg"])
            except OSError:
                pass  # it left

    def accept() -> None:
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:  # shut down
                return
            threads.append(threading.Thread(target=serve, args=(conn,)))
            threads[-1].start()

    threads = [threading.Thread(target=accept)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads[0].start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def right(seq: int, text: str) -> list[tuple[int, str]]:
    return [(seq, text)]


@pytest.mark.parametrize("size", [11, 64, 300], ids=lambda size: f"{size} B")
@pytest.mark.parametrize("cut", [0, 1, 3, 25, 60], ids=lambda cut: f"cut at {cut}")
def test_every_delivery_is_verified_and_counted(size: int, cut: int) -> None:
    with chat(right, cut) as port:
        load = Fanout(
            port, 3, size, warmup=0, seconds=30, messages=60, pids=[os.getpid()], publishers=2
        )
        report = load.run()
    assert report["messages"] == 60
    assert report["total_messages"] % 3 == 0
    assert 60 <= report["total_messages"] <= 66  # what was under way
    assert report["errors"] == 0
    assert 0 < report["p50_us"] <= report["p99_us"] <= report["max_us"] * 1.02
    assert report["cpu_ns"] > 0


def test_who_talks_ahead_has_a_window_of_messages_under_way() -> None:
    """Nothing comes before two windows were said; with one message less it never would."""
    first: list[tuple[int, str]] = []

    def late(seq: int, text: str) -> list[tuple[int, str]]:
        if seq < 8:
            first.append((seq, text))
            return first if seq == 7 else []
        return [(seq, text)]

    with chat(late) as port:
        report = Fanout(port, 3, warmup=0, seconds=30, messages=96, publishers=2, window=4).run()
    assert report["errors"] == 0
    assert report["messages"] == 96


def test_a_publisher_whose_messages_overtake_each_other_is_an_error() -> None:
    """The first of two is told after the second; the items' numbers are right."""
    texts: list[str] = []

    def swapped(seq: int, text: str) -> list[tuple[int, str]]:
        texts.append(text)
        return [(seq - 1, texts[seq]), (seq, texts[seq - 1])] if seq % 2 else []

    with chat(swapped) as port:
        load = Fanout(port, 2, warmup=0, seconds=30, messages=100, window=2)
        with pytest.raises(FailedError, match="message 2 came after one that was said later"):
            load.run()


@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        (lambda seq, text: [(seq, text), (seq, text)], "not under way|in place of"),
        (lambda seq, text: [(2 * seq, text)], "item 2 came in place of 1"),
        (lambda seq, text: [(-seq, text)], "item -1 came in place of 1"),
        (lambda seq, text: [(seq, text[:-1] + "y")], "message 1 came with another text"),
        (lambda seq, text: [(seq, text.replace("#0", "#1"))], "which is not under way"),
    ],
    ids=["twice", "a gap", "backwards", "another text", "another message"],
)
def test_a_wrong_delivery_is_an_error(items: Items, complaint: str) -> None:
    with chat(items) as port:
        load = Fanout(port, 1, warmup=0, seconds=30, messages=100)
        with pytest.raises(FailedError, match=complaint):
            load.run()


def test_nobody_listening_is_an_error() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        load = Fanout(reserved.getsockname()[1], 3, warmup=0, seconds=0.1)
        with pytest.raises(FailedError, match="connect: Connection refused"):
            load.run()


def test_held_subscribers_get_a_message_for_each_question() -> None:
    said = []

    def note(seq: int, text: str) -> list[tuple[int, str]]:
        said.append(seq)
        return [(seq, text)]

    with chat(note) as port, held(Fanout(port, 5)) as holding:
        assert said == []
        holding.ask()
        holding.ask()
        assert said == [0, 1]


# -- somebody else says it ---------------------------------------------------------------------


def say(port: int, text: str) -> None:
    """As a client of its own, which is gone when the chat has heard it."""
    payload = json.dumps({"msg": text}).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as conn:
        conn.sendall(b"GET /socket HTTP/1.1\r\n\r\n")
        conn.sendall(b"\x81\xfe" + len(payload).to_bytes(2) + bytes(4) + payload)
        conn.shutdown(socket.SHUT_WR)
        while conn.recv(4096):
            pass


@pytest.mark.parametrize("early", [False, True], ids=["after the question", "before it"])
def test_when_each_had_what_somebody_else_said(early: bool) -> None:
    load = Fanout(0, 4, publishers=0)
    with chat(right) as port, held(replace(load, port=port)) as holding:
        for number in (1, 2):
            start = time.monotonic_ns()
            if early:
                say(port, load.text(number))
                holding.tell()
            else:
                holding.tell()
                say(port, load.text(number))
            holding.report()
            came = holding.arrivals()
            assert len(came) == 4
            assert all(start < instant < time.monotonic_ns() for instant in came)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (Fanout(0, 1).text(2), "message 2 came, which is not under way"),
        (Fanout(0, 1).text(1)[:-1] + "y", "message 1 came with another text"),
        ("something else", "4 subscribers did not get a message within 0.2 s"),
    ],
    ids=["another message", "another text", "nothing that was expected"],
)
def test_what_nobody_was_to_say_is_an_error(text: str, complaint: str) -> None:
    load = Fanout(0, 4, publishers=0, patience=0.2)
    with chat(right) as port, held(replace(load, port=port)) as holding:
        say(port, text)
        with pytest.raises(FailedError, match=complaint):
            holding.ask()


def test_a_subscriber_that_was_left_out_is_an_error() -> None:
    load = Fanout(0, 4, publishers=0, patience=0.2)
    with chat(right, left_out=1) as port, held(replace(load, port=port)) as holding:
        say(port, load.text(1))
        with pytest.raises(FailedError, match=r"1 subscribers did not get a message within 0\.2 s"):
            holding.ask()
