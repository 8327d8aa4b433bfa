"""Epoll against the kernel and, on the same fds, against the standard library's select.epoll."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import math
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenpump.sys
from greenpump.sys import epoll as module
from greenpump.sys.epoll import (
    EPOLLERR,
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLHUP,
    EPOLLIN,
    EPOLLONESHOT,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDHUP,
    Epoll,
)
from greenpump.sys.epoll_event import NATURAL_BIG, NATURAL_LITTLE, PACKED, Layout
from greenpump.sys.eventfd import Eventfd

Interrupted = Callable[[Callable[[], object]], AbstractContextManager[None]]
InChild = Callable[[Callable[[], None]], None]


def events_of(flat: list[int]) -> list[tuple[int, int]]:
    """As a scheduler walks it."""
    it = iter(flat)
    return [(events, high << 32 | low) for events, low, high in zip(it, it, it, strict=True)]


@pytest.fixture
def epoll() -> Iterator[Epoll]:
    with Epoll() as it:
        yield it


@pytest.fixture
def event() -> Iterator[Eventfd]:
    with Eventfd() as it:
        yield it


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    a, b = socket.socketpair()
    a.setblocking(False)
    b.setblocking(False)
    with a, b:
        yield a, b


# -- constants and creation ----------------------------------------------------------------------


def test_constants_are_the_stdlibs() -> None:
    names = [name for name in module.__all__ if name.startswith("EPOLL")]
    assert len(names) == 15
    for name in names:
        if hasattr(select, name):
            assert getattr(module, name) == getattr(select, name)
        assert getattr(greenpump.sys, name) == getattr(module, name)
    missing = [name for name in names if not hasattr(select, name)]
    assert set(missing) <= {"EPOLLWAKEUP"}  # select has it from 3.14 on


@pytest.mark.parametrize("maxevents", [0, -1])
def test_maxevents_is_positive(maxevents: int) -> None:
    with pytest.raises(ValueError, match=f"maxevents must be positive: {maxevents}"):
        Epoll(maxevents)


# -- poll ----------------------------------------------------------------------------------------


def test_poll_returns_three_words_an_event(epoll: Epoll, event: Eventfd) -> None:
    assert epoll.poll(0) == []
    epoll.add(event.fd, EPOLLIN | EPOLLOUT)
    assert epoll.poll(0) == [EPOLLOUT, event.fd, 0]
    event.write()
    assert epoll.poll(-1) == [EPOLLIN | EPOLLOUT, event.fd, 0]


@pytest.mark.parametrize(
    "data", [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 32, 0x1122334455667788, 2**64 - 1]
)
def test_data_comes_back_whole(epoll: Epoll, event: Eventfd, data: int) -> None:
    epoll.add(event.fd, EPOLLOUT, data)
    assert epoll.poll(0) == [EPOLLOUT, data & 0xFFFFFFFF, data >> 32]
    assert epoll.wait(0) == [(EPOLLOUT, data)]
    epoll.modify(event.fd, EPOLLOUT, data ^ 1)
    assert epoll.wait(0) == [(EPOLLOUT, data ^ 1)]


def test_many_events_come_maxevents_at_a_time() -> None:
    with contextlib.ExitStack() as stack:
        epoll = stack.enter_context(Epoll(maxevents=3))
        owners = [stack.enter_context(Eventfd(1)) for _ in range(7)]
        for number, owner in enumerate(owners):
            epoll.add(owner.fd, EPOLLIN | EPOLLET, number << 40 | 5)
        polls = [events_of(epoll.poll(0)) for _ in range(4)]
        assert [len(events) for events in polls] == [3, 3, 1, 0]
        got = sorted(event for events in polls for event in events)
        assert got == [(EPOLLIN, number << 40 | 5) for number in range(7)]


def test_a_result_is_the_callers_own(epoll: Epoll, event: Eventfd) -> None:
    epoll.add(event.fd, EPOLLOUT, 1)
    first = epoll.poll(0)
    epoll.modify(event.fd, EPOLLOUT, 2)
    second = epoll.poll(0)
    assert (first, second) == ([EPOLLOUT, 1, 0], [EPOLLOUT, 2, 0])


def test_poll_times_out(epoll: Epoll) -> None:
    start = time.monotonic()
    assert epoll.poll(2) == []
    assert time.monotonic() - start >= 0.001


def test_a_timeout_too_long_for_a_c_int_does_not_wrap(epoll: Epoll, event: Eventfd) -> None:
    # 2**32 would wrap to 0 and return at once, with nothing.
    epoll.add(event.fd, EPOLLIN)
    writer = threading.Timer(0.005, event.write)
    writer.start()
    assert epoll.poll(1 << 32) == [EPOLLIN, event.fd, 0]
    writer.join()


def test_edge_triggered_events_come_once_and_modify_rearms(epoll: Epoll, event: Eventfd) -> None:
    epoll.add(event.fd, EPOLLIN | EPOLLET)
    event.write()
    assert epoll.poll(0) == [EPOLLIN, event.fd, 0]
    assert epoll.poll(0) == []
    event.write()
    assert epoll.poll(0) == [EPOLLIN, event.fd, 0]
    epoll.modify(event.fd, EPOLLIN | EPOLLET)
    assert epoll.poll(0) == [EPOLLIN, event.fd, 0]


def test_one_shot(epoll: Epoll, event: Eventfd) -> None:
    event.write()
    epoll.add(event.fd, EPOLLIN | EPOLLONESHOT)
    assert epoll.poll(0) == [EPOLLIN, event.fd, 0]
    assert epoll.poll(0) == []
    epoll.modify(event.fd, EPOLLIN | EPOLLONESHOT)
    assert epoll.poll(0) == [EPOLLIN, event.fd, 0]


def test_exclusive_can_be_added_but_not_modified(epoll: Epoll, event: Eventfd) -> None:
    epoll.add(event.fd, EPOLLIN | EPOLLEXCLUSIVE)
    event.write()
    assert epoll.poll(0) == [EPOLLIN, event.fd, 0]
    with pytest.raises(OSError, match="epoll_ctl MOD: Invalid argument"):
        epoll.modify(event.fd, EPOLLIN | EPOLLEXCLUSIVE)


def test_a_peer_that_hangs_up(epoll: Epoll, pair: tuple[socket.socket, socket.socket]) -> None:
    a, b = pair
    epoll.add(a.fileno(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
    assert epoll.poll(0) == [EPOLLOUT, a.fileno(), 0]
    b.send(b"x")
    b.shutdown(socket.SHUT_WR)
    assert epoll.poll(0) == [EPOLLIN | EPOLLOUT | EPOLLRDHUP, a.fileno(), 0]
    b.close()
    assert epoll.poll(0) == [EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP, a.fileno(), 0]


# -- signals -------------------------------------------------------------------------------------


def test_a_signal_ends_poll_with_nothing(epoll: Epoll, interrupted: Interrupted) -> None:
    with interrupted(lambda: None):
        assert epoll.poll(-1) == []


def test_a_handler_whose_own_call_fails_does_not_change_polls_result(
    epoll: Epoll, event: Eventfd, interrupted: Interrupted
) -> None:
    # The handler runs between the interrupted call and the line after it; errno is then its own.
    def handler() -> None:
        with pytest.raises(FileNotFoundError):
            epoll.remove(event.fd)

    with interrupted(handler):
        for _ in range(3):
            assert epoll.poll(-1) == []
    with interrupted(handler):
        assert epoll.wait(0.005) == []


def test_a_handler_that_raises_ends_poll(epoll: Epoll, interrupted: Interrupted) -> None:
    class Stop(Exception):
        pass

    polling = False

    def handler() -> None:
        nonlocal polling
        if polling:
            polling = False
            raise Stop

    def poll_for_ever() -> None:
        nonlocal polling
        polling = True
        while True:
            epoll.poll(-1)

    with interrupted(handler), pytest.raises(Stop):
        poll_for_ever()


def test_wait_goes_on_after_a_signal(
    epoll: Epoll, event: Eventfd, interrupted: Interrupted
) -> None:
    epoll.add(event.fd, EPOLLIN)
    signals: list[int] = []

    def handler() -> None:
        signals.append(1)
        if len(signals) == 3:
            event.write()

    with interrupted(handler):
        assert epoll.wait(30.0) == [(EPOLLIN, event.fd)]
    assert len(signals) >= 3


def test_wait_keeps_its_deadline_through_signals(epoll: Epoll, interrupted: Interrupted) -> None:
    with interrupted(lambda: None):
        start = time.monotonic()
        assert epoll.wait(0.01) == []
        assert time.monotonic() - start >= 0.01


# -- wait ----------------------------------------------------------------------------------------


@pytest.fixture(params=["epoll_pwait2", "epoll_wait"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """wait with the libc's epoll_pwait2, where it has one, and without."""
    if request.param == "epoll_wait":
        monkeypatch.setattr(module, "_epoll_pwait2", None)
    return str(request.param)


@pytest.mark.usefixtures("both_ways")
def test_wait_returns_pairs_and_times_out(epoll: Epoll, event: Eventfd) -> None:
    epoll.add(event.fd, EPOLLIN)
    start = time.monotonic()
    assert epoll.wait(0.0015) == []
    assert time.monotonic() - start >= 0.0015
    event.write()
    for timeout in (None, 0, 0.0, 1e-9, 5, 1e9):
        assert epoll.wait(timeout) == [(EPOLLIN, event.fd)]


@pytest.mark.usefixtures("both_ways")
def test_wait_with_a_fraction_of_a_millisecond_is_not_early(epoll: Epoll) -> None:
    start = time.monotonic_ns()
    assert epoll.wait(0.000_1) == []
    assert time.monotonic_ns() - start >= 100_000


def test_milliseconds_are_rounded_up(epoll: Epoll, monkeypatch: pytest.MonkeyPatch) -> None:
    # Rounded down, the last part of a millisecond would be spent in a busy loop.
    asked: list[int] = []
    monkeypatch.setattr(module, "_epoll_pwait2", None)
    monkeypatch.setattr(module, "_epoll_wait", lambda *args: asked.append(args[3]))
    memory = ctypes.create_string_buffer(16)
    for left in (0, 1, 1_000_000, 1_000_001, 10**20, None):
        epoll._sleep(memory, left)
    assert asked == [0, 1, 1, 2, 0x7FFFFFFF, -1]
    assert module._nanoseconds(0.4e-9) == 1


def test_a_kernel_without_epoll_pwait2(epoll: Epoll, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object) -> int:
        ctypes.set_errno(errno.ENOSYS)
        return -1

    monkeypatch.setattr(module, "_epoll_pwait2", refused)
    assert epoll.wait(0.001) == []
    assert module._epoll_pwait2 is None


@pytest.mark.parametrize("timeout", [-1, -1e-9, -math.inf, math.nan])
def test_wait_refuses_a_negative_timeout(epoll: Epoll, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must not be negative"):
        epoll.wait(timeout)


def test_wait_refuses_an_endless_float(epoll: Epoll) -> None:
    with pytest.raises(OverflowError):
        epoll.wait(math.inf)


def test_threads_may_wait_at_once() -> None:
    got: list[tuple[int, int]] = []
    with Epoll(maxevents=1) as epoll, Eventfd() as a, Eventfd() as b:
        epoll.add(a.fd, EPOLLIN | EPOLLONESHOT)
        epoll.add(b.fd, EPOLLIN | EPOLLONESHOT)
        threads = [threading.Thread(target=lambda: got.extend(epoll.wait())) for _ in range(2)]
        for thread in threads:
            thread.start()
        a.write()
        b.write()
        for thread in threads:
            thread.join()
        assert sorted(got) == sorted([(EPOLLIN, a.fd), (EPOLLIN, b.fd)])


def test_threads_may_add_and_remove_while_another_polls() -> None:
    with Epoll() as epoll, contextlib.ExitStack() as stack:
        wake = stack.enter_context(Eventfd())
        epoll.add(wake.fd, EPOLLIN)
        errors: list[BaseException] = []

        def churn() -> None:
            try:
                with Eventfd(1) as mine:
                    for number in range(300):
                        epoll.add(mine.fd, EPOLLIN, mine.fd | number << 32)
                        epoll.modify(mine.fd, EPOLLIN | EPOLLET, mine.fd | number << 32)
                        epoll.remove(mine.fd)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=churn) for _ in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            for events, data in events_of(epoll.poll(1)):
                assert events == EPOLLIN
                assert data >> 32 < 300
        for thread in threads:
            thread.join()
        assert errors == []
        wake.write()
        assert epoll.poll(0) == [EPOLLIN, wake.fd, 0]


# -- errors --------------------------------------------------------------------------------------


def test_added_twice(epoll: Epoll, event: Eventfd) -> None:
    epoll.add(event.fd, EPOLLIN)
    with pytest.raises(FileExistsError, match=rf"epoll_ctl ADD: File exists \(fd {event.fd}\)"):
        epoll.add(event.fd, EPOLLIN)


def test_not_added(epoll: Epoll, event: Eventfd) -> None:
    with pytest.raises(FileNotFoundError, match=rf"epoll_ctl MOD: .* \(fd {event.fd}\)"):
        epoll.modify(event.fd, EPOLLIN)
    with pytest.raises(FileNotFoundError, match=rf"epoll_ctl DEL: .* \(fd {event.fd}\)"):
        epoll.remove(event.fd)


def test_a_regular_file(epoll: Epoll, tmp_path: Path) -> None:
    with (
        open(tmp_path / "file", "w") as file,
        pytest.raises(PermissionError, match=rf"epoll_ctl ADD: .* \(fd {file.fileno()}\)"),
    ):
        epoll.add(file.fileno(), EPOLLIN)


def test_an_fd_that_is_not_open(epoll: Epoll) -> None:
    fd = os.dup(0)
    os.close(fd)
    for call in (epoll.remove, functools.partial(epoll.add, events=EPOLLIN)):
        with pytest.raises(OSError, match=rf"Bad file descriptor \(fd {fd}\)") as caught:
            call(fd)
        assert caught.value.errno == errno.EBADF


def test_itself(epoll: Epoll) -> None:
    with pytest.raises(OSError, match="epoll_ctl ADD: Invalid argument") as caught:
        epoll.add(epoll.fd, EPOLLIN)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("fd", [-1, 1 << 31, (1 << 32) + 1, 1 << 70])
def test_no_number_is_cut_down_to_some_fd(epoll: Epoll, fd: int) -> None:
    with pytest.raises(ValueError, match=f"not a file descriptor: {fd}"):
        epoll.add(fd, EPOLLIN)


@pytest.mark.parametrize("fd", ["1", None, b"1", [1]])
def test_what_is_no_number_is_refused(epoll: Epoll, fd: int) -> None:
    with pytest.raises(TypeError):
        epoll.add(fd, EPOLLIN)


@pytest.mark.parametrize(("events", "data"), [(-1, 0), (1 << 32, 0), (1, -1), (1, 1 << 64)])
def test_events_and_data_that_do_not_fit(
    epoll: Epoll, event: Eventfd, events: int, data: int
) -> None:
    with pytest.raises(ValueError, match="unsigned"):
        epoll.add(event.fd, events, data)
    assert epoll.poll(0) == []


def test_polling_what_was_closed_behind_its_back() -> None:
    epoll = Epoll()
    os.close(epoll.fd)
    calls: list[Callable[[], object]] = [
        lambda: epoll.poll(0),
        lambda: epoll.poll(-1),
        lambda: epoll.wait(),
        lambda: epoll.wait(1),
    ]
    for call in calls:
        with pytest.raises(OSError, match=rf"epoll_wait: .* \(epoll fd {epoll.fd}\)") as caught:
            call()
        assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match="Bad file descriptor"):
        epoll.close()


# -- stale fds and forks -------------------------------------------------------------------------


def test_a_reused_number_is_told_apart_by_its_data(epoll: Epoll) -> None:
    a, b = socket.socketpair()
    stays = a.dup()  # the open file lives on, so the kernel doesn't forget its registration
    epoll.add(a.fileno(), EPOLLIN, 1 << 32 | a.fileno())
    number = a.detach()
    os.close(number)
    reused = Eventfd()
    assert reused.fd == number
    b.send(b"x")
    assert epoll.poll(0) == [EPOLLIN, number, 1]  # an event of the file that had the number
    with pytest.raises(FileNotFoundError):
        epoll.remove(number)  # which can't even be removed any more
    epoll.add(number, EPOLLIN, 2 << 32 | number)
    reused.write()
    assert sorted(events_of(epoll.poll(0))) == [
        (EPOLLIN, 1 << 32 | number),
        (EPOLLIN, 2 << 32 | number),
    ]
    stays.close()  # the last reference: now the kernel forgets
    assert epoll.poll(0) == [EPOLLIN, number, 2]
    reused.close()
    b.close()


def test_removed_in_time_nothing_is_stale(epoll: Epoll) -> None:
    a, b = socket.socketpair()
    stays = a.dup()
    epoll.add(a.fileno(), EPOLLIN)
    epoll.remove(a.fileno())
    a.close()
    b.send(b"x")
    assert epoll.poll(0) == []
    stays.close()
    b.close()


def test_after_fork_the_registrations_are_shared(
    epoll: Epoll, event: Eventfd, in_child: InChild
) -> None:
    event.write()
    epoll.add(event.fd, EPOLLIN)
    in_child(lambda: epoll.remove(event.fd))
    assert epoll.poll(0) == []


def test_after_fork_a_new_one_is_the_childs_own(
    epoll: Epoll, event: Eventfd, in_child: InChild
) -> None:
    event.write()
    epoll.add(event.fd, EPOLLIN)

    def child() -> None:
        epoll.close()
        with Epoll() as mine:
            mine.add(event.fd, EPOLLIN)
            assert mine.poll(0) == [EPOLLIN, event.fd, 0]
            mine.remove(event.fd)

    in_child(child)
    assert epoll.poll(0) == [EPOLLIN, event.fd, 0]


# -- against select.epoll ------------------------------------------------------------------------

MASKS = [EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT | EPOLLRDHUP, EPOLLPRI, 0]
FLAGS = [0, EPOLLET, EPOLLONESHOT, EPOLLET | EPOLLONESHOT]
masks = st.builds(lambda mask, flag: mask | flag, st.sampled_from(MASKS), st.sampled_from(FLAGS))
which = st.integers(0, 3)  # the ends of two socket pairs
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), which, masks),
        st.tuples(st.just("modify"), which, masks),
        st.tuples(st.just("remove"), which, st.just(0)),
        st.tuples(st.sampled_from(["send", "recv", "shutdown", "close"]), which, st.just(0)),
    ),
    max_size=30,
)


def outcome(call: Callable[..., object], *args: int) -> tuple[type, int | None] | None:
    try:
        call(*args)
    except OSError as error:
        return type(error), error.errno
    return None


@given(steps)
def test_the_same_as_select_epoll(steps: list[tuple[str, int, int]]) -> None:
    with contextlib.ExitStack() as stack:
        ours, theirs = stack.enter_context(Epoll()), stack.enter_context(select.epoll())
        ends = [stack.enter_context(end) for _ in range(2) for end in socket.socketpair()]
        fds = [end.fileno() for end in ends]
        for end in ends:
            end.setblocking(False)
        for what, number, mask in steps:
            fd, end = fds[number], ends[number]
            if what == "add":
                assert outcome(ours.add, fd, mask) == outcome(theirs.register, fd, mask)
            elif what == "modify":
                assert outcome(ours.modify, fd, mask) == outcome(theirs.modify, fd, mask)
            elif what == "remove":
                # From 3.9 on select.epoll hides EBADF here.
                if end.fileno() >= 0:
                    assert outcome(ours.remove, fd) == outcome(theirs.unregister, fd)
            elif what == "close":
                end.close()
            else:
                with contextlib.suppress(OSError):
                    if what == "send":
                        end.send(b"x")
                    elif what == "recv":
                        end.recv(100)
                    else:
                        end.shutdown(socket.SHUT_WR)
            expected = sorted((events, fd) for fd, events in theirs.poll(0))
            assert sorted(events_of(ours.poll(0))) == expected


# -- the layouts that this machine doesn't have ----------------------------------------------------


@pytest.mark.parametrize("layout", [PACKED, NATURAL_LITTLE])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_on_a_kernel_of_the_other_layout(
    layout: Layout, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that remembers what it is told, and answers, in *layout*."""
    told: list[bytes] = []

    def ctl(fd: int, operation: int, watched: int, event: bytes) -> int:
        told.append(event)
        return 0

    def answer(fd: int, buffer: Any, maxevents: int, timeout: int) -> int:
        memory = getattr(buffer, "_obj", buffer)  # byref's target, or the array itself
        ctypes.memmove(memory, b"".join(told), len(told) * layout.size)
        return len(told)

    monkeypatch.setattr(module, "_LAYOUT", layout)
    monkeypatch.setattr(module, "_epoll_ctl", ctl)
    monkeypatch.setattr(module, "_epoll_wait", answer)
    monkeypatch.setattr(module, "_epoll_wait_now", answer)
    monkeypatch.setattr(module, "_epoll_pwait2", None)
    expected = [(EPOLLIN | EPOLLERR, 0x1122334455667788 + n) for n in range(count)]
    with Epoll(maxevents=5) as epoll:
        for n, (events, data) in enumerate(expected):
            epoll.add(n, events, data)
        assert [len(event) for event in told] == [layout.size] * count
        assert events_of(epoll.poll(0)) == expected
        assert events_of(epoll.poll(1)) == expected
        assert epoll.wait(0) == expected


def test_a_big_endian_machine_has_its_words_the_other_way_round() -> None:
    assert NATURAL_BIG.flatten is not None
    assert NATURAL_BIG.flatten([1, 0, 0xAAAA, 0xBBBB]) == [1, 0xBBBB, 0xAAAA]
