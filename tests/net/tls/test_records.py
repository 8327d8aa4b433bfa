"""Records: what a reader must answer, whoever else sends, and however full the kernel is."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from greenpump.hub.hub import Hub
from greenpump.hub.pollable import QUOTA
from greenpump.hub.spawning import spawn, yield_now
from greenpump.net.listen import socketpair
from greenpump.net.tls import SSLSocket, wrap_socket
from greenpump.net.tls.records import ANSWERS
from greenpump.sync.cases import writable
from greenpump.sync.select import select
from greenpump.testing import virtual_clock, wait_all_parked
from tests.net.tls.certificates import Certificates

Pair = Callable[..., tuple[SSLSocket, SSLSocket]]
MEGABYTES = 3_000_000


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


# -- sending what fits ---------------------------------------------------------------------------


def send_what_fits(conn: SSLSocket, data: bytes) -> int:
    sent = 0
    while piece := conn.try_send(data[sent:]):
        sent += piece
    return sent


@pytest.mark.parametrize("timeout", [None, 60, 0])
def test_what_fits_is_sent_and_nobody_else_runs_meanwhile(
    pair: Pair, timeout: float | None
) -> None:
    a, b = pair()
    a.settimeout(timeout)
    a.set_write_deadline(0)  # time limits are for those who wait
    ran: list[int] = []
    other = spawn(ran.append, 1)
    for _ in range(2 * QUOTA):
        assert a.try_send(b"x") == 1
    assert a.try_send(b"") == 0
    data = os.urandom(MEGABYTES)
    sent = send_what_fits(a, data)
    assert 0 < sent < len(data)
    assert a.try_send(b"x") == 0
    assert not ran
    other.join()
    # Without a further call, also what the kernel had not taken of the last record.
    assert b.recv_exactly(2 * QUOTA + sent) == b"x" * 2 * QUOTA + data[:sent]
    wait_all_parked()
    assert a.try_send(b"again") == 5
    assert b.recv(10) == b"again"


def test_what_is_sent_later_stays_behind_it(pair: Pair) -> None:
    a, b = pair()
    data = os.urandom(MEGABYTES)
    sent = send_what_fits(a, data)
    later = spawn(a.sendall, data[sent:])
    wait_all_parked()
    assert not later.done
    assert a.try_send(b"too early") == 0
    assert b.recv_exactly(len(data)) == data
    later.join()
    assert a.try_send(memoryview(b"now")) == 3
    assert b.recv(10) == b"now"


def test_all_that_a_try_counts_arrives_whoever_reads_and_writes(pair: Pair) -> None:
    a, b = pair()
    data = os.urandom(MEGABYTES)
    received = bytearray()

    def read() -> None:
        while len(received) < len(data):
            received.extend(b.recv(50_000))
            yield_now()

    reader = spawn(read)
    back = spawn(a.recv_exactly, MEGABYTES)
    there = spawn(b.sendall, data)
    sent = 0
    while sent < len(data):
        sent += a.try_send(data[sent : sent + 5_000])
        select(writable(a))
    reader.join()
    there.join()
    assert bytes(received) == back.result() == data


def test_after_a_send_in_vain_the_same_data_is_not_sent_twice(pair: Pair) -> None:
    a, b = pair()
    data = os.urandom(MEGABYTES)
    a.setblocking(False)
    sent = 0
    with suppress(ssl.SSLWantWriteError):
        while True:
            sent += a.send(data[sent : sent + 16384])
    assert a.try_send(data[sent : sent + 16384]) == 0
    got = b.recv_exactly(sent)
    wait_all_parked()
    assert a.try_send(data[sent : sent + 20_000]) == 20_000
    assert got + b.recv_exactly(20_000) == data[: sent + 20_000]


def test_nothing_fits_before_the_handshake_is_done(certificates: Certificates) -> None:
    near, far = socketpair()
    a = wrap_socket(near, certificates.server(), server_side=True, do_handshake_on_connect=False)
    with a, far:
        assert a.try_send(b"x") == 0
        far.shutdown(1)
        with pytest.raises(OSError, match="EOF"):
            a.do_handshake()


def test_a_try_to_send_fails_as_send_does(pair: Pair) -> None:
    a, b = pair()
    for nonsense in ("text", None, 5):
        with pytest.raises(TypeError) as info:
            a.try_send(nonsense)  # type: ignore[arg-type]
        with pytest.raises(TypeError) as other:
            a.send(nonsense)
        assert str(info.value) == str(other.value)
    b.abort()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        a.try_send(b"x")
    a.close()
    with pytest.raises(OSError) as closed:
        a.try_send(b"x")
    assert closed.value.errno == errno.EBADF


def test_no_try_after_the_farewell(pair: Pair) -> None:
    a, b = pair()
    a.shutdown(1)
    for call in (a.try_send, a.send):
        with pytest.raises(BrokenPipeError):
            call(b"x")
    b.close()


def test_a_try_without_tls_any_more(pair: Pair) -> None:
    a, b = pair()
    other = spawn(b.unwrap)
    a.unwrap()
    other.join()
    assert a.try_send(b"plain") == 5
    assert b.recv(10) == b"plain"


def test_a_rest_that_nobody_takes_ends_with_the_connection(pair: Pair, hub: Hub) -> None:
    a, b = pair()
    send_what_fits(a, bytes(MEGABYTES))
    wait_all_parked()
    [task] = hub.live_tasks()
    b.abort()
    assert task.result() is None
    with pytest.raises(OSError):
        a.try_send(b"x")
