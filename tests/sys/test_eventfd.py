from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenpump.sys.epoll import EPOLLIN, Epoll
from greenpump.sys.eventfd import Eventfd

MAX = 2**64 - 2

FdInfo = Callable[[int], dict[str, str]]
Interrupted = Callable[[Callable[[], object]], AbstractContextManager[None]]


def count_of(info: dict[str, str]) -> int:
    return int(info["eventfd-count"], 16)


def test_count(fdinfo: FdInfo) -> None:
    with Eventfd(3) as event:
        assert count_of(fdinfo(event.fd)) == 3
        event.write()
        event.write(10)
        event.write(0)
        assert count_of(fdinfo(event.fd)) == 14
        assert event.read() == 14
        with pytest.raises(BlockingIOError, match=rf"eventfd_read: .* \(eventfd fd {event.fd}\)"):
            event.read()


def test_semaphore() -> None:
    with Eventfd(2, semaphore=True) as event:
        event.write()
        assert [event.read() for _ in range(3)] == [1, 1, 1]
        with pytest.raises(BlockingIOError):
            event.read()


def test_full_it_refuses_and_stays_readable() -> None:
    with Eventfd() as event:
        event.write(MAX)
        with pytest.raises(BlockingIOError, match="eventfd_write"):
            event.write()
        assert event.read() == MAX


@pytest.mark.parametrize("value", [-1, 2**64 - 1, 2**64])
def test_values_out_of_range(value: int) -> None:
    with Eventfd() as event:
        with pytest.raises(ValueError, match="value out of range"):
            event.write(value)
        with pytest.raises(BlockingIOError):
            event.read()


@pytest.mark.parametrize("initial", [-1, 2**32])
def test_initial_counts_out_of_range(initial: int) -> None:
    with pytest.raises(ValueError, match="initial count out of range"):
        Eventfd(initial)


@given(st.lists(st.integers(0, 2**64 // 4), max_size=3), st.booleans())
def test_the_stdlib_reads_what_we_wrote_and_we_what_it_wrote(
    values: list[int], semaphore: bool
) -> None:
    flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC | (os.EFD_SEMAPHORE if semaphore else 0)
    fd = os.eventfd(0, flags)
    with Eventfd(0, semaphore) as event:
        for value in values:
            event.write(value)
            os.eventfd_write(fd, value)
        if sum(values):
            count = os.eventfd_read(fd)
            assert os.eventfd_read(event.fd) == count
            os.eventfd_write(event.fd, count)
            os.eventfd_write(fd, count)
            assert event.read() == os.eventfd_read(fd)
    os.close(fd)


def test_flags_are_the_stdlibs(fdinfo: FdInfo) -> None:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    with Eventfd() as event:
        assert fdinfo(event.fd)["flags"] == fdinfo(fd)["flags"]
    os.close(fd)


def test_threads_that_write_at_once_lose_nothing() -> None:
    each, threads = 2_000, 4
    barrier = threading.Barrier(threads + 1)
    with Eventfd() as event, Epoll() as epoll:
        epoll.add(event.fd, EPOLLIN)

        def write() -> None:
            barrier.wait()
            for _ in range(each):
                event.write()

        writers = [threading.Thread(target=write) for _ in range(threads)]
        for writer in writers:
            writer.start()
        barrier.wait()
        total = 0
        while total < each * threads:
            assert epoll.wait(10.0) == [(EPOLLIN, event.fd)]
            total += event.read()
        for writer in writers:
            writer.join()
        assert total == each * threads
        assert epoll.poll(0) == []


def test_a_signal_handler_wakes_the_epoll_it_interrupts(
    interrupted: Interrupted,
) -> None:
    with Eventfd() as event, Epoll() as epoll:
        epoll.add(event.fd, EPOLLIN)
        with interrupted(event.write):
            assert epoll.wait() == [(EPOLLIN, event.fd)]
        assert event.read() >= 1


def test_after_fork_the_count_is_shared(in_child: Callable[[Callable[[], None]], None]) -> None:
    with Eventfd() as event:
        in_child(event.write)
        assert event.read() == 1


def test_it_does_not_serve_as_wakeup_fd() -> None:
    # CPython writes one byte there and an eventfd wants eight; a scheduler needs a socket pair.
    with Eventfd() as event:
        signal.set_wakeup_fd(event.fd)
        signal.set_wakeup_fd(-1)
        with pytest.raises(OSError, match="Invalid argument"):
            os.write(event.fd, b"\0")
