"""Stream: pipes, ptys and other pollable fds as binary files, beside the stdlib's."""

from __future__ import annotations

import array
import errno
import io
import json
import os
import pty
import random
import threading
import tty
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenpump as gp
from greenpump.files.opening import pipe
from greenpump.files.stream import Stream
from greenpump.hub.local import this_hub
from greenpump.hub.pollable import Pollable
from greenpump.testing import wait_all_parked

Ends = tuple[Stream, Stream]


@pytest.fixture
def ends() -> Iterator[Ends]:
    reader, writer = pipe()
    with reader, writer:
        yield reader, writer


def holding(data: bytes, *, buffered: bool = True) -> Stream:
    """The end of a pipe that has ``data`` to give, and then its end."""
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return Stream(reader, "rb", buffered=buffered)


# -- as the stdlib ---------------------------------------------------------------------------------

CALLS: list[tuple[str, tuple[Any, ...]]] = [
    ("read", ()),
    ("read", (None,)),
    ("read", (0,)),
    ("read", (4,)),
    ("read", (100,)),
    ("read1", (3,)),
    ("read1", (0,)),
    ("readline", ()),
    ("readline", (3,)),
    ("readline", (0,)),
    ("readline", (None,)),
    ("readlines", ()),
    ("readlines", (5,)),
    ("readlines", (None,)),
    ("__next__", ()),
    ("tell", ()),
    ("seek", (0,)),
    ("truncate", ()),
    ("write", (b"x",)),
    ("readable", ()),
    ("writable", ()),
    ("seekable", ()),
    ("isatty", ()),
    ("flush", ()),
]


def answer(file: Any, name: str, args: tuple[Any, ...]) -> Any:
    try:
        return getattr(file, name)(*args)
    except StopIteration as error:
        return type(error)
    except OSError:
        return OSError  # of io.UnsupportedOperation and ESPIPE the stdlib uses now this, now that
    except ValueError as error:
        return type(error)


@given(
    data=st.lists(st.sampled_from([b"a", b"bcd", b"\n", b"\r\n", b"e" * 9])).map(b"".join),
    calls=st.lists(st.sampled_from(CALLS), max_size=8),
)
def test_calls_answer_as_io_buffered_reader(
    data: bytes, calls: list[tuple[str, tuple[Any, ...]]]
) -> None:
    mine = holding(data)
    fd, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    with mine, open(fd, "rb") as theirs:
        for name, args in calls:
            assert answer(mine, name, args) == answer(theirs, name, args)
    for name, args in calls:
        if name not in ("write", "writable"):  # a closed reader says no more than that it is one
            assert answer(mine, name, args) == answer(theirs, name, args)


@pytest.mark.parametrize("data", [b"", b"ab\ncd", b"abcdef"])
@pytest.mark.parametrize(
    "calls",
    [
        [("read", (2,)), ("read", ())],
        [("readline", ()), ("readline", ()), ("readline", ())],
        [("read", (100,)), ("read", (1,))],
        [("readline", (2,)), ("read", (1,))],
    ],
)
def test_unbuffered_calls_answer_as_io_file_io(data: bytes, calls: list[Any]) -> None:
    mine = holding(data, buffered=False)
    fd, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    with mine, open(fd, "rb", buffering=0) as theirs:
        for name, args in calls:
            assert answer(mine, name, args) == answer(theirs, name, args)


def test_readinto_and_peek() -> None:
    with holding(b"abcdefgh") as stream:
        assert stream.peek()[:3] == b"abc"
        buffer = bytearray(3)
        assert stream.readinto(buffer) == 3
        assert buffer == b"abc"
        assert stream.readinto1(memoryview(buffer)[:2]) == 2
        assert buffer == b"dec"
        assert stream.readinto(bytearray(10)) == 3
        assert stream.readinto(buffer) == 0
        assert stream.peek() == b""


def test_it_takes_the_place_of_the_stdlibs_file() -> None:
    with holding(b'{"a": 1}') as stream:
        assert isinstance(stream, io.BufferedIOBase)
        assert json.load(stream) == {"a": 1}


# -- parking ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "pieces", "result"),
    [
        (lambda s: s.read(5), [b"ab", b"cdefg"], b"abcde"),
        (lambda s: s.read1(), [b"ab"], b"ab"),
        (lambda s: s.readline(), [b"ab", b"c", b"d\nef"], b"abcd\n"),
        (lambda s: s.readline(4), [b"ab", b"cdef"], b"abcd"),
        (lambda s: s.read_exactly(3), [b"a", b"b", b"cd"], b"abc"),
        (lambda s: s.read_until(b"--"), [b"a-", b"-b"], b"a--"),
        (lambda s: s.peek(), [b"ab"], b"ab"),
        (lambda s: next(s), [b"a", b"\n"], b"a\n"),
    ],
)
def test_a_read_parks_until_it_can_be_answered(
    ends: Ends, call: Callable[[Stream], bytes], pieces: list[bytes], result: bytes
) -> None:
    reader, writer = ends
    task = gp.spawn(call, reader)
    for piece in pieces:
        wait_all_parked()
        assert not task.done
        writer.write(piece)
    assert task.result(30) == result


def test_a_cancelled_read_has_consumed_nothing(ends: Ends) -> None:
    reader, writer = ends
    for read in (lambda: reader.read(100), reader.readline, reader.read, reader.readlines):
        writer.write(b"abc")
        task = gp.spawn(read)
        wait_all_parked()
        task.cancel()
        task.join()
        assert task.cancelled
        assert reader.read(3) == b"abc"


def test_lines_of_several_tasks_stay_whole_and_none_is_lost(ends: Ends) -> None:
    reader, writer = ends
    lines: list[bytes] = []

    def read() -> None:
        for line in reader:
            lines.append(line)
            gp.yield_now()

    tasks = [gp.spawn(read) for _ in range(5)]
    wait_all_parked()
    sent = [b"%d" % n * 10 + b"\n" for n in range(500)]
    whole = b"".join(sent)
    at = 0
    while at < len(whole):
        size = random.Random(at).randrange(1, 50)
        writer.write(whole[at : at + size])
        gp.yield_now()
        at += size
    writer.close()
    for task in tasks:
        task.result(30)
    assert sorted(lines) == sorted(sent)


def test_who_waits_is_woken_when_another_has_read_its_line(ends: Ends) -> None:
    reader, writer = ends
    tasks = [gp.spawn(reader.readline) for _ in range(3)]
    wait_all_parked()
    writer.write(b"a\nb\nc\n")
    assert [task.result(30) for task in tasks] == [b"a\n", b"b\n", b"c\n"]


def test_readers_of_several_hubs(ends: Ends) -> None:
    reader, writer = ends
    lines: list[bytes] = []
    threads = [threading.Thread(target=lambda: lines.extend(all_lines(reader))) for _ in range(3)]
    for thread in threads:
        thread.start()
    sent = [b"%d\n" % n for n in range(3000)]
    for at in range(0, 3000, 7):
        writer.write(b"".join(sent[at : at + 7]))
    writer.close()
    for thread in threads:
        gp.offload(thread.join)
    assert sorted(lines) == sorted(sent)


def all_lines(reader: Stream) -> list[bytes]:
    found = []
    while line := reader.readline():
        found.append(line)
    return found


def test_a_write_parks_until_all_is_taken(ends: Ends) -> None:
    reader, writer = ends
    data = os.urandom(1_000_000)
    task = gp.spawn(writer.write, data)
    wait_all_parked()
    assert not task.done
    assert reader.read(1_000_000) == data
    assert task.result(30) == 1_000_000


def test_writes_of_several_tasks_do_not_mix(ends: Ends) -> None:
    reader, writer = ends
    size = 150_000
    tasks = [gp.spawn(writer.write, bytes([65 + n]) * size) for n in range(4)]
    got = reader.read(4 * size)
    assert got == b"".join(bytes([65 + n]) * size for n in range(4))
    for task in tasks:
        task.result(30)


def test_a_cancelled_write_lets_the_next_one_pass(ends: Ends) -> None:
    reader, writer = ends
    one = gp.spawn(writer.write, b"a" * 1_000_000)
    two = gp.spawn(writer.write, b"b")
    wait_all_parked()
    one.cancel()
    one.join()

    def close() -> None:
        two.join()
        writer.close()

    gp.spawn(close)
    got = reader.read()
    assert set(got) == {ord("a"), ord("b")}
    assert got.endswith(b"b")
    assert got.count(b"b") == 1


def test_write_some_of_a_cancelled_task_has_written_nothing(ends: Ends) -> None:
    reader, writer = ends
    taken = writer.write_some(b"a" * 1_000_000)
    task = gp.spawn(writer.write_some, b"b" * 1000)
    wait_all_parked()
    task.cancel()
    task.join()
    writer.close()
    assert reader.read() == b"a" * taken


def test_it_writes_what_bytes_can_be_had_of(ends: Ends) -> None:
    reader, writer = ends
    assert writer.write(array.array("i", [1, 2])) == 8
    assert writer.write(b"") == 0
    writer.writelines([b"a", b"b"])
    assert reader.read(10) == array.array("i", [1, 2]).tobytes() + b"ab"
    with pytest.raises(TypeError):
        writer.write("text")


def test_others_run_while_one_reads_what_is_always_there() -> None:
    with open("/dev/zero", "rb") as zero:
        fd = os.dup(zero.fileno())
    turns: list[int] = []
    stop = False

    def count() -> None:
        while not stop:
            turns.append(1)
            gp.yield_now()

    gp.spawn(count)
    with Stream(fd) as stream:
        for _ in range(1000):
            stream.read1()
    stop = True
    assert turns


def test_a_select_takes_it(ends: Ends) -> None:
    reader, writer = ends
    other = gp.Channel[int]()
    task = gp.spawn(gp.select, gp.receiving(other), gp.readable(reader))
    wait_all_parked()
    writer.write(b"x")
    assert task.result(30)[0] == 1
    assert reader.read(1) == b"x"


# -- ends and errors -------------------------------------------------------------------------------


def test_what_ends_too_early() -> None:
    with holding(b"abc") as stream, pytest.raises(gp.IncompleteRead, match="3 of 5 bytes") as found:
        stream.read_exactly(5)
    assert found.value.partial == b"abc"
    with holding(b"abc") as stream, pytest.raises(gp.IncompleteRead, match="without b'x'") as found:
        stream.read_until(b"x")
    assert found.value.partial == b"abc"
    with holding(b"abcx") as stream:
        with pytest.raises(gp.DelimiterNotFound, match="within 2 bytes") as late:
            stream.read_until(b"x", 2)
        assert late.value.partial == b"ab"
        assert stream.read_until(b"x", 2) == b"cx"


def test_bad_arguments(ends: Ends) -> None:
    reader, writer = ends
    with pytest.raises(ValueError, match="must not be negative"):
        reader.read_exactly(-1)
    with pytest.raises(ValueError, match="must not be empty"):
        reader.read_until(b"")
    with pytest.raises(io.UnsupportedOperation, match="not opened for writing"):
        reader.write(b"x")
    with pytest.raises(io.UnsupportedOperation, match="not opened for reading"):
        writer.read()


def test_a_reader_that_has_gone(ends: Ends) -> None:
    reader, writer = ends
    task = gp.spawn(writer.write, b"x" * 1_000_000)
    wait_all_parked()
    reader.close()
    with pytest.raises(BrokenPipeError):
        task.result(30)
    with pytest.raises(BrokenPipeError):
        writer.write(b"x")


def test_close_wakes_who_waits(ends: Ends) -> None:
    reader, _ = ends
    calls: list[Callable[[], object]] = [reader.read, reader.readline, lambda: next(reader)]
    tasks = [gp.spawn(call) for call in calls]
    wait_all_parked()
    reader.close()
    for task in tasks:
        with pytest.raises(ValueError, match="I/O operation on closed file"):
            task.result(30)
    assert reader.closed
    reader.close()
    with pytest.raises(ValueError, match="closed file"):
        reader.read()
    assert repr(reader) == "<Stream closed mode='rb'>"


def test_close_wakes_who_writes(ends: Ends) -> None:
    _, writer = ends
    tasks = [gp.spawn(writer.write, b"x" * 10**6) for _ in range(2)]
    wait_all_parked()
    writer.close()
    for task in tasks:
        with pytest.raises(ValueError, match="I/O operation on closed file"):
            task.result(30)
    with pytest.raises(ValueError, match="closed file"):
        writer.write(b"")


def test_close_from_another_thread_wakes_who_waits(ends: Ends) -> None:
    reader, _ = ends
    task = gp.spawn(reader.read)
    wait_all_parked()
    gp.offload(reader.close)
    assert isinstance(task.exception(30), ValueError)


def test_one_that_is_dropped_says_so_and_closes() -> None:
    stream = holding(b"")
    fd = stream.fileno()
    with pytest.warns(ResourceWarning, match=rf"unclosed file <Stream fd={fd}"):
        del stream
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_an_fd_that_was_closed_already() -> None:
    fd = os.dup(0)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Stream(fd)


# -- other files -----------------------------------------------------------------------------------


def test_a_pty_in_both_directions() -> None:
    master_fd, slave_fd = pty.openpty()
    with Stream(master_fd, "r+b", buffered=False) as master, Stream(slave_fd, "r+b") as slave:
        assert slave.isatty()
        task = gp.spawn(slave.readline)
        wait_all_parked()
        master.write(b"hello\nwor")
        assert task.result(30) == b"hello\n"
        assert master.read(100) == b"hello\r\nwor"
        tty.setraw(slave.fileno())
        slave.write(b"out\n")
        assert master.read_until(b"\n") == b"out\n"


def test_a_terminals_end_of_file_is_not_its_last_word() -> None:
    master_fd, slave_fd = pty.openpty()
    with Stream(master_fd, "r+b") as master, Stream(slave_fd, "r+b") as slave:
        for text in (b"one", b"two"):
            master.write(text + b"\x04\x04")
            assert slave.read() == text


def test_a_ptys_hangup() -> None:
    master_fd, slave_fd = pty.openpty()
    with Stream(master_fd, "r+b") as master:
        task = gp.spawn(master.read)
        wait_all_parked()
        os.close(slave_fd)
        error = task.exception(30)
        assert isinstance(error, OSError)
        assert error.errno == errno.EIO


def test_packets() -> None:
    reader_fd, writer_fd = os.pipe2(os.O_DIRECT)
    with Stream(reader_fd) as reader, Stream(writer_fd, "wb") as writer:
        task = gp.spawn(reader.read_exactly, 6)
        wait_all_parked()
        for packet in (b"ab", b"cd", b"ef"):
            writer.write(packet)
        assert task.result(30) == b"abcdef"


def test_an_eventfd() -> None:
    with Stream(os.eventfd(0), "r+b", buffered=False) as event:
        task = gp.spawn(event.read, 8)
        wait_all_parked()
        event.write((5).to_bytes(8, "little"))
        assert task.result(30) == (5).to_bytes(8, "little")


def test_a_fork_reads_on(ends: Ends) -> None:
    reader, writer = ends
    task = gp.spawn(reader.readline)
    wait_all_parked()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            status = 0 if task.result(30) == b"to the child\n" else 2
        finally:
            os._exit(status)
    try:
        writer.write(b"to the child\n")
        # Not before it has: parent and child would race for the line.
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        writer.write(b"to the parent\n")
    assert task.result(30) == b"to the parent\n"


def test_nothing_of_it_is_left_in_the_hub() -> None:
    hub = this_hub()
    with holding(b""):
        pass
    before = sum(pollable.generation >= 0 for pollable in hub.table)
    for _ in range(100):
        reader, writer = pipe()
        with reader, writer:
            gp.spawn(reader.read)
            wait_all_parked()
            writer.write(b"x")
            writer.close()
            wait_all_parked()
    assert sum(pollable.generation >= 0 for pollable in hub.table) == before


def test_what_keeps_it_from_waiting_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(pollable: Pollable) -> None:
        raise OSError(errno.ENOSPC, "epoll_ctl")  # max_user_watches

    reader, writer = pipe()
    with reader, writer:
        monkeypatch.setattr(Pollable, "wait_read", full)
        with pytest.raises(OSError, match="epoll_ctl") as caught:
            reader.read(1)
        assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("call", [Stream.read, Stream.read1])
def test_without_a_buffer_no_more_is_taken_than_is_returned(
    call: Callable[[Stream, int], bytes],
) -> None:
    with holding(b"abcdef", buffered=False) as stream:
        assert call(stream, 2) == b"ab"
        assert os.read(stream.fileno(), 10) == b"cdef"
