"""recv_exactly, recv_until, sendfile, lingering close, abort."""

from __future__ import annotations

import os
import socket
import tempfile
from errno import EBADF
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenpump.errors import DelimiterNotFound, IncompleteRead
from greenpump.hub.local import this_hub
from greenpump.hub.spawning import spawn, yield_now
from greenpump.net.listen import socketpair
from greenpump.net.socket import Socket
from greenpump.testing import virtual_clock, wait_all_parked


def tcp() -> tuple[Socket, Socket]:
    with Socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = Socket()
        client.connect(listener.getsockname())
        return client, listener.accept()[0]


def now() -> float:
    return this_hub().timers.clock() / 1e9


# -- reading -------------------------------------------------------------------------------------


def test_exactly_so_many() -> None:
    a, b = socketpair()
    with a, b:
        reading = spawn(b.recv_exactly, 6)
        for piece in (b"ab", b"cd", b"efgh"):
            a.sendall(piece)
            wait_all_parked()
        assert reading.result() == b"abcdef"
        assert b.recv_exactly(0) == b""
        assert b.recv_exactly(2) == b"gh"


def test_a_great_many() -> None:
    a, b = tcp()
    with a, b:
        data = os.urandom(1_000_000)
        sending = spawn(a.sendall, data)
        assert b.recv_exactly(len(data)) == data
        sending.result()


@pytest.mark.parametrize("sent", [b"", b"abc"])
def test_the_end_in_the_middle(sent: bytes) -> None:
    a, b = socketpair()
    with b:
        a.sendall(sent)
        a.close()
        with pytest.raises(IncompleteRead, match=f"after {len(sent)} of 10 bytes") as info:
            b.recv_exactly(10)
        assert info.value.partial == sent
        assert isinstance(info.value, EOFError)


def test_until_a_delimiter_and_not_a_byte_further() -> None:
    a, b = socketpair()
    with a, b:
        a.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nbody")
        assert b.recv_until(b"\r\n") == b"GET / HTTP/1.1\r\n"
        assert b.recv_until(b"\r\n\r\n") == b"Host: x\r\n\r\n"
        assert b.recv(100) == b"body"


def test_a_delimiter_that_comes_in_pieces() -> None:
    a, b = socketpair()
    with a, b:
        reading = spawn(b.recv_until, b"--end--")
        for piece in (b"text--en", b"d-", b"-more"):
            a.sendall(piece)
            wait_all_parked()
        assert reading.result() == b"text--end--"
        assert b.recv(100) == b"more"


def test_a_delimiter_far_away() -> None:
    a, b = socketpair()
    with a, b:
        sending = spawn(a.sendall, b"x" * 300_000 + b"\n" + b"y")
        assert len(b.recv_until(b"\n", limit=400_000)) == 300_001
        sending.result()
        assert b.recv(10) == b"y"


def test_the_limit() -> None:
    a, b = socketpair()
    with a, b:
        a.sendall(b"12345\n12345\n")
        assert b.recv_until(b"\n", limit=6) == b"12345\n"
        with pytest.raises(DelimiterNotFound, match=r"no b'\\n' within 5 bytes") as info:
            b.recv_until(b"\n", limit=5)
        assert info.value.partial == b"12345"
        assert isinstance(info.value, ValueError)
        assert b.recv(10) == b"\n"


def test_the_end_before_the_delimiter() -> None:
    a, b = socketpair()
    with b:
        a.sendall(b"half a line")
        a.close()
        with pytest.raises(IncompleteRead) as info:
            b.recv_until(b"\n")
        assert info.value.partial == b"half a line"


def test_fds_behind_the_delimiter_are_not_lost() -> None:
    a, b = socketpair()
    with a, b, tempfile.TemporaryFile() as file:
        a.sendall(b"fd follows\n")
        socket.send_fds(a, [b"here"], [file.fileno()])
        assert b.recv_until(b"\n") == b"fd follows\n"
        data, fds, _, _ = socket.recv_fds(b, 100, 1)
        assert data == b"here"
        os.close(fds[0])


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda sock: sock.recv_exactly(-1), ValueError),
        (lambda sock: sock.recv_exactly("1"), TypeError),
        (lambda sock: sock.recv_exactly(1.5), TypeError),
        (lambda sock: sock.recv_until(b""), ValueError),
        (lambda sock: sock.recv_until("\n"), TypeError),
        (lambda sock: sock.recv_until(b"\r\n", limit=1), ValueError),
        (lambda sock: sock.recv_until(b"\n", limit="1"), TypeError),
    ],
)
def test_wrong_arguments(call, error) -> None:  # type: ignore[no-untyped-def]
    a, b = socketpair()
    with a, b, pytest.raises(error):
        call(a)


@virtual_clock()
def test_a_timeout_is_for_the_whole_read() -> None:
    a, b = socketpair()
    with a, b:
        b.settimeout(10)
        reading = spawn(b.recv_exactly, 100)
        start = now()
        for _ in range(3):
            a.sendall(b"x")
            assert not reading.join(3)
        assert isinstance(reading.exception(), TimeoutError)
        assert 10 <= now() - start < 10.1


STEPS = st.tuples(st.sampled_from(["recv", "into", "peek", "exactly", "until"]), st.integers(1, 99))


@given(st.lists(st.binary(max_size=50), max_size=20), st.lists(STEPS, min_size=1, max_size=20))
def test_however_it_is_cut_the_stream_is_the_same(
    pieces: list[bytes], steps: list[tuple[str, int]]
) -> None:
    a, b = socketpair()
    whole = b"".join(pieces)

    def send() -> None:
        with a:
            for piece in pieces:
                a.sendall(piece)
                yield_now()

    sending = spawn(send)
    got = bytearray()
    turns = cycle([*steps, ("recv", 1)])
    with b:
        while left := whole[len(got) :]:
            step, size = next(turns)
            match step:
                case "recv":
                    got += b.recv(size)
                case "into":
                    room = bytearray(size)
                    got += room[: b.recv_into(room)]
                case "peek":
                    seen = b.recv(size, socket.MSG_PEEK)
                    assert seen
                    assert left.startswith(seen)
                case "exactly":
                    got += b.recv_exactly(min(size, len(left)))
                case _:
                    delimiter = left[size % len(left) :][:2]
                    line = b.recv_until(delimiter)
                    assert line == left[: left.index(delimiter) + len(delimiter)]
                    got += line
            assert whole.startswith(got)
        assert b.recv(1) == b""
    sending.result()


# -- sendfile ------------------------------------------------------------------------------------


def test_a_file_longer_than_the_buffers_and_a_time_limit() -> None:
    a, b = tcp()
    with a, b, tempfile.TemporaryFile() as file:
        file.truncate(30_000_000)
        sending = spawn(a.sendfile, file, 10)
        wait_all_parked()
        assert not sending.done
        total = 0
        while total < 30_000_000 - 10:
            total += len(b.recv(1 << 20))
        assert sending.result() == total
        assert file.tell() == 30_000_000
        a.settimeout(0.001)
        with pytest.raises(TimeoutError, match="timed out: sendfile"):
            a.sendfile(file, 0)
        assert 0 < file.tell() < 30_000_000


def test_a_file_to_a_closed_socket() -> None:
    a, b = tcp()
    b.close()
    a.close()
    with tempfile.TemporaryFile() as file, pytest.raises(OSError) as info:
        a.sendfile(file)
    assert info.value.errno == EBADF


# -- the end -------------------------------------------------------------------------------------


def test_abort_resets_the_peer() -> None:
    a, b = tcp()
    with b:
        reading = spawn(b.recv, 1)
        wait_all_parked()
        a.abort()
        assert isinstance(reading.exception(), ConnectionResetError)
        assert a.fileno() == -1
        a.abort()


def test_abort_does_not_wait_for_files() -> None:
    a, b = tcp()
    with b, a.makefile("rb"):
        a.abort()
        with pytest.raises(ConnectionResetError):
            b.recv(1)


def test_lingering_saves_what_a_plain_close_would_lose() -> None:
    a, b = tcp()
    with b:
        b.sendall(b"unread")
        a.sendall(b"answer")
        closing = spawn(a.close, linger=30)
        wait_all_parked()
        b.sendall(b"more that nobody reads")
        assert b.recv(100) == b"answer"
        assert b.recv(100) == b""
        assert not closing.done
        b.close()
        closing.result()
        assert a.fileno() == -1


def test_a_plain_close_with_unread_bytes_resets() -> None:
    a, b = tcp()
    with b:
        b.sendall(b"unread")
        a.recv(1)
        a.close()
        with pytest.raises(ConnectionResetError):
            b.recv(100)


@virtual_clock()
def test_lingering_ends_at_its_limit() -> None:
    a, b = tcp()
    with b:
        a.settimeout(1)
        start = now()
        a.close(linger=20)
        assert 20 <= now() - start < 20.1
        assert a.fileno() == -1
        assert b.recv(1) == b""


def test_lingering_where_there_is_nothing_to_linger_for() -> None:
    Socket().close(linger=5)
    a, b = tcp()
    with b:
        a.close(linger=0)
        with pytest.raises(ConnectionResetError):
            b.recv(1)
    a.close(linger=5)
    c, d = socketpair()
    d.close()
    c.close(linger=5)
    e, f = socketpair()
    with f, pytest.raises(ValueError, match="negative"):
        e.close(linger=-1)
    assert e.fileno() == -1
