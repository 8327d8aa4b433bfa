"""Engine: what a reader must answer, whoever else sends, and however full the kernel is."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable

import pytest

from greenpump.hub.hub import Hub
from greenpump.hub.spawning import spawn
from greenpump.net.tls import SSLSocket
from greenpump.net.tls.engine import ANSWERS
from greenpump.testing import virtual_clock, wait_all_parked
from tests.net.tls.shaping import Answering

Pair = Callable[..., tuple[SSLSocket, SSLSocket]]
MEGABYTES = 3_000_000


def drain(conn: SSLSocket) -> None:
    """Receive until the end."""
    while conn.recv(65536):
        pass


def fill(conn: SSLSocket) -> int:
    """Send until the kernel takes no more; how many bytes."""
    total = 0
    conn.setblocking(False)
    piece = bytes(16384)
    try:
        while True:
            total += conn.send(piece)
    except ssl.SSLWantWriteError:
        conn.setblocking(True)
    conn._owed = 0  # no other try with the same data will come
    conn._open = True
    return total + len(piece)


def test_an_answer_goes_out_at_once(pair: Pair) -> None:
    a, b = pair()
    Answering(a, b"answer")
    b.sendall(b"x")
    assert a.recv(10) == b"x"
    assert b.recv(10) == b"answer"


def test_a_reader_does_not_wait_for_a_writer(pair: Pair, hub: Hub) -> None:
    a, b = pair()
    Answering(a, b"answer")
    data = os.urandom(1000) * (MEGABYTES // 1000)
    writer = spawn(a.sendall, data)
    wait_all_parked()
    b.sendall(b"x")
    assert a.recv(10) == b"x"
    assert not writer.done
    assert hub.live_tasks() == [writer]
    got = b.recv_exactly(len(data) + len(b"answer"))
    writer.join()
    assert b"answer" in got
    assert got.replace(b"answer", b"") == data


def test_what_the_kernel_does_not_take_goes_out_later(pair: Pair, hub: Hub) -> None:
    a, b = pair()
    Answering(a, b"answer")
    size = fill(a)
    b.sendall(b"x")
    assert a.recv(10) == b"x"
    [task] = hub.live_tasks()
    assert task.name == f"rest of what is sent over TLS on fd {a.fileno()}"
    assert b.recv_exactly(size + 6).endswith(b"answer")
    task.join()


def test_a_closed_connection_ends_the_answers(pair: Pair, hub: Hub) -> None:
    a, b = pair()
    Answering(a, b"answer")
    fill(a)
    b.sendall(b"x")
    assert a.recv(10) == b"x"
    [task] = hub.live_tasks()
    a.close()
    assert task.result() is None


def test_a_peer_who_asks_and_never_reads_is_waited_for(pair: Pair) -> None:
    a, b = pair()
    Answering(a, bytes(ANSWERS))
    fill(a)
    for _ in range(4):
        b.sendall(b"x")
    got: list[bytes] = []

    def read() -> None:
        while data := a.recv(1):
            got.append(data)

    reader = spawn(read)
    wait_all_parked()
    assert not reader.done
    assert 0 < len(got) < 4
    draining = spawn(drain, b)
    wait_all_parked()
    b.sendall(b"x")
    wait_all_parked()
    assert len(got) == 5
    a.shutdown(1)
    draining.join()
    b.close()
    reader.join()


def test_a_send_that_timed_out_goes_first(pair: Pair) -> None:
    a, b = pair()
    with virtual_clock() as clock:
        size = fill(a)
        a.settimeout(1)
        late = spawn(a.send, b"late")
        wait_all_parked()
        clock.advance(1)
        with pytest.raises(TimeoutError, match="send"):
            late.result()
    a.settimeout(None)
    after = spawn(a.sendall, b" but in order")
    got = b.recv_exactly(size + len(b" but in order"))
    after.join()
    assert got.strip(b"\0") in (b" but in order", b"late but in o")
    a.close()
    assert got + b.recv(100) in (bytes(size) + b" but in order", bytes(size) + b"late but in order")
