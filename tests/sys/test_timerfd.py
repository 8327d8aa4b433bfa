from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable

import pytest

from greenpump.sys.epoll import EPOLLET, EPOLLIN, Epoll
from greenpump.sys.timerfd import Timerfd

HOUR = 3600 * 1_000_000_000
ABSTIME = 1

FdInfo = Callable[[int], dict[str, str]]


def wait_readable(timer: Timerfd) -> None:
    with Epoll() as epoll:
        epoll.add(timer.fd, EPOLLIN)
        assert epoll.wait(5.0) == [(EPOLLIN, timer.fd)]


@pytest.mark.parametrize("clock", [time.CLOCK_MONOTONIC, time.CLOCK_REALTIME, time.CLOCK_BOOTTIME])
def test_the_kernel_has_the_clock_asked_for(clock: int, fdinfo: FdInfo) -> None:
    with Timerfd(clock) as timer:
        assert fdinfo(timer.fd)["clockid"] == str(clock)
        assert timer.gettime() == (0, 0)


def test_no_such_clock() -> None:
    with pytest.raises(OSError, match=r"timerfd_create: .* \(clock 77\)") as caught:
        Timerfd(77)
    assert caught.value.errno == errno.EINVAL


def test_arm_is_absolute(fdinfo: FdInfo) -> None:
    with Timerfd() as timer:
        before = time.monotonic_ns()
        timer.arm(before + HOUR)
        remaining, interval = timer.gettime()
        assert HOUR - (time.monotonic_ns() - before) <= remaining <= HOUR
        assert interval == 0
        assert int(fdinfo(timer.fd)["settime flags"], 8) == ABSTIME
        with pytest.raises(BlockingIOError, match=rf"read: .* \(timerfd fd {timer.fd}\)"):
            timer.read()


def test_it_does_not_fire_before_its_deadline() -> None:
    with Timerfd() as timer:
        deadline = time.monotonic_ns() + 2_000_000
        timer.arm(deadline)
        wait_readable(timer)
        assert time.monotonic_ns() >= deadline
        assert timer.read() == 1
        assert timer.gettime() == (0, 0)


@pytest.mark.parametrize("deadline", [-(10**18), -1, 0, 1, 1_000])
def test_a_deadline_that_has_passed_fires_at_once(deadline: int) -> None:
    with Timerfd() as timer:
        timer.arm(deadline)
        assert timer.read() == 1


@pytest.mark.parametrize("delay", [-1, 0])
def test_a_delay_that_has_passed_fires_at_once(delay: int) -> None:
    with Timerfd() as timer:
        timer.arm_after(delay)
        wait_readable(timer)
        assert timer.read() == 1


def test_arm_after_is_relative_and_repeats(fdinfo: FdInfo) -> None:
    with Timerfd() as timer:
        timer.arm_after(HOUR, 7)
        remaining, interval = timer.gettime()
        assert 0 < remaining <= HOUR
        assert interval == 7
        assert int(fdinfo(timer.fd)["settime flags"], 8) == 0


def test_an_interval_counts_what_was_not_read() -> None:
    with Timerfd() as timer:
        start = time.monotonic_ns()
        timer.arm_after(1_000, 1_000)
        wait_readable(timer)
        count = timer.read()
        assert 1 <= count <= (time.monotonic_ns() - start) // 1_000


@pytest.mark.parametrize("forget", [Timerfd.disarm, lambda timer: timer.arm_after(HOUR)])
def test_setting_it_forgets_an_unread_expiration(forget: Callable[[Timerfd], None]) -> None:
    with Timerfd() as timer:
        timer.arm(1)
        wait_readable(timer)
        forget(timer)
        with pytest.raises(BlockingIOError):
            timer.read()


def test_disarm_stops_it() -> None:
    with Timerfd() as timer:
        timer.arm_after(HOUR, HOUR)
        timer.disarm()
        assert timer.gettime() == (0, 0)


def test_edge_triggered_and_never_read_each_arming_is_an_edge() -> None:
    # How a scheduler uses it: nothing but arm.
    with Epoll() as epoll, Timerfd() as timer:
        epoll.add(timer.fd, EPOLLIN | EPOLLET)
        for _ in range(3):
            timer.arm(time.monotonic_ns() + 500_000)
            assert epoll.wait(5.0) == [(EPOLLIN, timer.fd)]
            assert epoll.poll(0) == []


def test_out_of_range() -> None:
    with Timerfd() as timer:
        with pytest.raises(OverflowError, match="time too far"):
            timer.arm(1 << 100)
        with pytest.raises(ValueError, match="interval must not be negative: -1"):
            timer.arm_after(1, -1)
        timer.arm(1 << 62)  # a century and more: fine
        assert timer.gettime()[0] > HOUR


def test_after_fork_the_timer_is_shared(in_child: Callable[[Callable[[], None]], None]) -> None:
    with Timerfd() as timer:
        in_child(lambda: timer.arm(1))
        assert timer.read() == 1


# -- against CPython's own, from 3.13 on ---------------------------------------------------------

stdlib = pytest.mark.skipif(
    not hasattr(os, "timerfd_create"), reason="os.timerfd_create is there from CPython 3.13 on"
)


@stdlib
@pytest.mark.parametrize(("delay", "interval"), [(HOUR, 0), (HOUR, 5), (2 * HOUR + 1, HOUR)])
def test_the_stdlib_reads_what_we_set_and_we_what_it_set(delay: int, interval: int) -> None:
    gettime, settime = getattr(os, "timerfd_gettime_ns"), getattr(os, "timerfd_settime_ns")  # noqa: B009
    with Timerfd() as timer:
        timer.arm_after(delay, interval)
        first = timer.gettime()
        its_remaining, its_interval = gettime(timer.fd)  # its docstring has them swapped
        second = timer.gettime()
        assert first[0] >= its_remaining >= second[0] > 0
        assert first[1] == its_interval == second[1] == interval

        settime(timer.fd, initial=delay, interval=interval)
        remaining, found = timer.gettime()
        assert delay - HOUR // 60 < remaining <= delay
        assert found == interval


@stdlib
def test_the_same_as_the_stdlibs_timer(fdinfo: FdInfo) -> None:
    create = getattr(os, "timerfd_create")  # noqa: B009
    settime = getattr(os, "timerfd_settime_ns")  # noqa: B009
    flags = os.O_CLOEXEC | os.O_NONBLOCK
    theirs = create(time.CLOCK_MONOTONIC, flags=flags)
    deadline = time.monotonic_ns() + HOUR
    with Timerfd() as ours:
        ours.arm(deadline)
        settime(theirs, flags=ABSTIME, initial=deadline)
        mine, its = fdinfo(ours.fd), fdinfo(theirs)
        for name in ("flags", "clockid", "ticks", "settime flags", "it_interval"):
            assert mine[name] == its[name]
        ours.arm(1)
        settime(theirs, flags=ABSTIME, initial=1)
        assert ours.read() == int.from_bytes(os.read(theirs, 8), sys.byteorder) == 1
    os.close(theirs)
