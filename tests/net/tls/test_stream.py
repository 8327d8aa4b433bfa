"""Stream: bytes over TLS, whoever waits, gives up or takes them bit by bit."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select as kernel
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import pytest

from greenpump.errors import Cancelled, DelimiterNotFound, IncompleteRead
from greenpump.hub.hub import Hub
from greenpump.hub.pollable import QUOTA
from greenpump.hub.scope import move_on_after
from greenpump.hub.spawning import spawn
from greenpump.net.listen import socketpair
from greenpump.net.tls import SSLSocket, stream, wrap_socket
from greenpump.sync.cases import readable
from greenpump.sync.select import select
from greenpump.testing import virtual_clock, wait_all_parked
from tests.net.tls.certificates import Certificates
from tests.net.tls.shaping import only, record

Pair = Callable[..., tuple[SSLSocket, SSLSocket]]
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
MEGABYTES = 3_000_000


# -- bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_both_ways_at_once(pair: Pair, certificates: Certificates, version: ssl.TLSVersion) -> None:
    a, b = pair(client=only(certificates.client(), version))
    data = os.urandom(1000) * (MEGABYTES // 1000)
    sending = [spawn(a.sendall, data), spawn(b.sendall, data)]
    receiving = [spawn(a.recv_exactly, len(data)), spawn(b.recv_exactly, len(data))]
    assert [task.result() == data for task in receiving] == [True, True]
    for task in sending:
        task.join()


def test_several_writers_and_readers_lose_nothing(pair: Pair) -> None:
    a, b = pair()
    sizes = [1, 100, 16384, 16385, 100_000]
    writers = [spawn(a.sendall, bytes([65 + n]) * size) for n, size in enumerate(sizes)]
    got: list[bytes] = []

    def read() -> None:
        while data := b.recv(5000):
            got.append(data)

    readers = [spawn(read) for _ in range(3)]
    for task in writers:
        task.join()
    a.shutdown(socket.SHUT_WR)
    for task in readers:
        task.join()
    everything = b"".join(got)
    assert [everything.count(bytes([65 + n])) for n in range(len(sizes))] == sizes


def test_a_small_buffer_gets_a_record_bit_by_bit(pair: Pair, hub: Hub) -> None:
    a, b = pair()
    a.sendall(b"abcdefgh")
    assert b.recv(3) == b"abc"
    assert b.pending() == 5
    polls = hub.polls
    buffer = bytearray(4)
    assert b.recv_into(buffer) == 4
    assert bytes(buffer) == b"defg"
    assert b.recv_into(buffer, 2) == 1
    assert hub.polls == polls
    assert b.pending() == 0
    assert b.recv(0) == b""
    with pytest.raises(ValueError, match="negative"):
        b.recv(-1)


def test_records_that_came_together_are_pending(pair: Pair) -> None:
    a, b = pair()
    a.sendall(b"one")
    a.sendall(b"two")
    assert b.recv(100) == b"one"
    assert b.pending() == 3
    assert b.read(100) == b"two"


def test_every_buffer_and_nothing(pair: Pair) -> None:
    a, b = pair()
    a.sendall(memoryview(b"ab"))
    a.sendall(bytearray(b"cd"))
    a.sendall(b"")
    assert a.send(b"") == 0
    assert a.write(b"ef") == 2
    assert b.recv_exactly(6) == b"abcdef"
    with pytest.raises(TypeError):
        a.sendall("text")


def test_exactly_and_until(pair: Pair) -> None:
    a, b = pair()
    a.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nbody")
    assert b.recv_until(b"\r\n") == b"GET / HTTP/1.1\r\n"
    assert b.pending() == 15
    assert b.recv_until(b"\r\n\r\n") == b"Host: x\r\n\r\n"
    assert b.recv(2) == b"bo"
    assert b.recv_exactly(2) == b"dy"
    a.sendall(b"0123456789")
    with pytest.raises(DelimiterNotFound) as told:
        b.recv_until(b"\n", 8)
    assert told.value.partial == b"01234567"
    a.close()
    with pytest.raises(IncompleteRead) as ended:
        b.recv_until(b"\n")
    assert ended.value.partial == b"89"
    with pytest.raises(IncompleteRead):
        b.recv_exactly(1)


def test_files(pair: Pair, tmp_path: Any) -> None:
    a, b = pair()
    path = tmp_path / "file"
    path.write_bytes(b"x" * 50_000 + b"end")
    with path.open("rb") as file:
        sending = spawn(a.sendfile, file, 10)
        assert b.recv_exactly(49_993)[-3:] == b"end"
        assert sending.result() == 49_993
    with a.makefile("rwb") as near, b.makefile("rb") as far:
        near.write(b"line\nrest")
        near.flush()
        assert far.readline() == b"line\n"
    assert isinstance(far, io.BufferedReader)


# -- waiting -------------------------------------------------------------------------------------


def test_timeouts_hold_for_whole_calls(pair: Pair) -> None:
    a, b = pair()
    with virtual_clock() as clock:
        b.settimeout(5)
        reading = spawn(b.recv_exactly, 3)
        wait_all_parked()
        for piece in (b"a", b"b"):
            clock.advance(2)
            a.sendall(piece)
            wait_all_parked()
        assert not reading.done
        clock.advance(2)
        with pytest.raises(TimeoutError, match="timed out"):
            reading.result()


def test_a_deadline_ends_all_who_wait(pair: Pair) -> None:
    a, b = pair()
    readers = [spawn(b.recv, 10) for _ in range(3)]
    wait_all_parked()
    b.set_deadline(time.monotonic() - 1)
    for reader in readers:
        with pytest.raises(TimeoutError):
            reader.result()
    b.set_deadline(None)
    a.sendall(b"still")
    assert b.recv(10) == b"still"


def test_a_cancelled_reader_loses_nothing(pair: Pair) -> None:
    a, b = pair()
    reader = spawn(b.recv, 10)
    wait_all_parked()
    reader.cancel()
    wait_all_parked()
    assert isinstance(reader.exception(), Cancelled)
    a.sendall(b"here")
    assert b.recv(10) == b"here"


def test_a_reader_cancelled_in_the_middle_of_a_record(pair: Pair) -> None:
    a, b = pair()
    sealed = record(a, b"0123456789" * 5)
    with socket.socket(fileno=os.dup(a.fileno())) as raw:
        reader = spawn(b.recv, 100)
        wait_all_parked()
        raw.sendall(sealed[:60])
        wait_all_parked()
        reader.cancel()
        wait_all_parked()
        assert isinstance(reader.exception(), Cancelled)
        raw.sendall(sealed[60:])
        got = b.recv(100)
        while len(got) < 50:
            got += b.recv(100)
        assert got == b"0123456789" * 5


def test_large_messages_are_received_in_large_pieces(pair: Pair, hub: Hub) -> None:
    a, b = pair()
    writer = spawn(a.sendall, bytes(MEGABYTES))
    sizes: list[int] = []
    while sum(sizes) < MEGABYTES:
        sizes.append(len(b.recv(65536)))
    writer.join()
    assert max(sizes) > 60_000
    assert b.pending() == 0


def test_a_cancelled_writer_leaves_the_stream_in_order(pair: Pair) -> None:
    a, b = pair()
    data = os.urandom(MEGABYTES)
    with move_on_after() as scope:
        writer = spawn(a.sendall, data)
        wait_all_parked()
        writer.cancel()
        wait_all_parked()
        assert writer.done
    assert not scope.expired
    last = spawn(a.sendall, b"the last words")
    got = bytearray()
    while not got.endswith(b"the last words"):
        got += b.recv(65536)
    last.join()
    body = bytes(got[: -len(b"the last words")])
    assert body == data[: len(body)]
    assert 0 < len(body) < len(data)


def test_a_parked_writer_keeps_no_reader_out(pair: Pair) -> None:
    a, b = pair()
    writer = spawn(a.sendall, bytes(MEGABYTES))
    wait_all_parked()
    assert not writer.done
    b.sendall(b"meanwhile")
    assert a.recv(100) == b"meanwhile"
    assert len(b.recv_exactly(MEGABYTES)) == MEGABYTES
    writer.join()


def test_non_blocking_mode(pair: Pair) -> None:
    a, b = pair()
    b.setblocking(False)
    with pytest.raises(ssl.SSLWantReadError):
        b.recv(10)
    a.sendall(b"one")
    a.sendall(b"two")
    assert [b.recv(10), b.recv(10)] == [b"one", b"two"]
    a.setblocking(False)
    piece = os.urandom(16384)
    sent = 0
    with contextlib.suppress(ssl.SSLWantWriteError):
        while True:
            sent += a.send(piece)
    with pytest.raises(ssl.SSLWantWriteError):
        a.send(piece)
    b.setblocking(True)
    assert b.recv_exactly(sent) == piece * (sent // len(piece))
    assert a.send(piece) == len(piece)  # the one that was told to try again
    assert b.recv_exactly(len(piece)) == piece
    a.setblocking(True)
    a.sendall(b"and no more than that")
    assert b.recv(100) == b"and no more than that"


def the_kernel_has_more(conn: SSLSocket) -> bool:
    return bool(kernel.select([conn], [], [], 0)[0])


def test_in_non_blocking_mode_what_follows_stays_in_the_kernel(pair: Pair) -> None:
    a, b = pair()
    a.sendall(b"one")
    a.sendall(bytes(40_000))
    a._farewell()  # and the fd stays open
    b.setblocking(False)
    assert b.recv(3) == b"one"
    buffer = bytearray(40_000)
    got = 0
    while got < 40_000:
        assert the_kernel_has_more(b)
        got += b.recv_into(buffer, 20_000)  # a record
    assert the_kernel_has_more(b)
    assert b.recv(10) == b""


def test_a_handshake_takes_nothing_that_follows_it(certificates: Certificates) -> None:
    near, far = socketpair()
    a = wrap_socket(
        near, certificates.client(), server_hostname="localhost", do_handshake_on_connect=False
    )
    b = wrap_socket(far, certificates.server(), server_side=True, do_handshake_on_connect=False)
    with a, b:
        b.setblocking(False)
        client = spawn(a.do_handshake)
        wait_all_parked()
        with pytest.raises(ssl.SSLWantReadError):
            b.do_handshake()
        client.result()
        a.sendall(b"together with the last flight")
        b.do_handshake(block=True)
        assert the_kernel_has_more(b)
        assert select(readable(b)) == (0, b)
        b.setblocking(True)
        assert b.recv(100) == b"together with the last flight"
        assert not the_kernel_has_more(b)


# -- the hot paths -------------------------------------------------------------------------------


def test_a_sender_that_never_waits_lets_others_run(pair: Pair) -> None:
    a, _ = pair()
    ran: list[int] = []
    spawn(ran.append, 1)
    for _ in range(2 * QUOTA):
        a.sendall(b"x")
    assert ran


def test_records_sent_one_by_one_to_a_slow_reader(pair: Pair) -> None:
    a, b = pair()
    data = os.urandom(MEGABYTES)

    def send() -> None:
        for at in range(0, len(data), 16384):
            a.sendall(data[at : at + 16384])

    sender = spawn(send)
    wait_all_parked()
    assert not sender.done
    assert b.recv_exactly(len(data)) == data
    sender.join()


def test_what_a_cancel_left_over_goes_before_a_short_message(pair: Pair) -> None:
    a, b = pair()
    data = os.urandom(MEGABYTES)
    sender = spawn(a.sendall, data)
    wait_all_parked()
    sender.cancel()
    wait_all_parked()
    assert a._unsent
    got = b""
    while not a._pollable.writable:  # so that the hot path is taken
        got += b.recv(16384)
        wait_all_parked()
    a.sendall(b"the last")
    while not got.endswith(b"the last"):
        got += b.recv(65536)
    assert data.startswith(got[: -len(b"the last")])


def test_what_the_kernel_refused_for_a_moment_goes_first(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair()

    def refuse(*args: object) -> int:
        raise OSError(errno.ENOBUFS, "no memory at the moment")

    with monkeypatch.context() as moment:
        moment.setattr(stream, "_send", refuse)
        with pytest.raises(OSError, match="at the moment"):
            a.sendall(b"first ")
    a.sendall(b"second")
    assert b.recv_exactly(12) == b"first second"


def test_a_stream_of_full_records_is_cut_where_one_ends(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair()
    a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    assert select(readable(b), timeout=0) is None  # the tickets have been read
    partly: list[object] = []
    monkeypatch.setattr(SSLSocket, "_stopped", lambda conn, error: partly.append(error))
    size = 6 * 16384
    sender = spawn(a.sendall, bytes(size))
    wait_all_parked()
    while size:
        size -= len(b.recv(16384))
    sender.join()
    assert not partly
