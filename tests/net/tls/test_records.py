"""Records: sending what fits at the moment, and not a byte of it twice or out of order."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Callable
from contextlib import suppress
from socket import socket

import pytest

from greenpump.hub.hub import Hub
from greenpump.hub.pollable import QUOTA
from greenpump.hub.spawning import spawn, yield_now
from greenpump.net.listen import socketpair
from greenpump.net.tls import SSLSocket, wrap_socket
from greenpump.net.tls.engine import ANSWERS
from greenpump.sync.cases import writable
from greenpump.sync.select import select
from greenpump.testing import wait_all_parked
from tests.net.tls.certificates import Certificates
from tests.net.tls.shaping import Answering

Pair = Callable[..., tuple[SSLSocket, SSLSocket]]
MEGABYTES = 3_000_000


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


def test_what_does_not_fit_is_not_even_encrypted(pair: Pair, hub: Hub) -> None:
    a, b = pair()
    raw, peer = socket(fileno=os.dup(a.fileno())), socket(fileno=os.dup(b.fileno()))
    with raw, peer:
        filled = 0
        with suppress(BlockingIOError):
            while True:
                filled += raw.send(bytes(65536))
        a._pollable.filled()
        assert a.try_send(b"x") == 0
        assert not a._unsent
        assert not hub.live_tasks()
        while filled:
            filled -= len(peer.recv(filled))
        assert not a._pollable.writable  # nobody has polled meanwhile, and there is room
        assert a.try_send(b"x") == 1
        assert b.recv(10) == b"x"


def test_what_a_reader_answered_meanwhile_goes_out_too(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair()
    answers = [b"answer"]

    def push_while_another_thread_reads(conn: SSLSocket) -> None:
        push(conn)
        if answers:
            conn._sslobj.write(answers.pop())

    push = SSLSocket._push
    monkeypatch.setattr(SSLSocket, "_push", push_while_another_thread_reads)
    assert a.try_send(b"x") == 1
    assert b.recv_exactly(7) == b"xanswer"


def test_looking_does_not_wait_for_a_peer_who_asks_and_never_reads(pair: Pair) -> None:
    a, b = pair()
    Answering(a, bytes(ANSWERS))
    assert a._sending.try_take()  # as a task that waits for room would have
    b.sendall(b"x")
    assert a._look(ask_kernel=True)
    a._sending.give()
    a._answer()
    assert a.recv(10) == b"x"
    assert len(b.recv_exactly(ANSWERS)) == ANSWERS


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
            a.try_send(nonsense)
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
