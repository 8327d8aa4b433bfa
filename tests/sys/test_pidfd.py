from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from greenpump.sys import libc, pidfd
from greenpump.sys.epoll import EPOLLHUP, EPOLLIN, Epoll
from greenpump.sys.pidfd import Pidfd, pidfd_open, pidfd_send_signal

FdInfo = Callable[[int], dict[str, str]]


@contextlib.contextmanager
def child() -> Iterator[int]:
    """A process that ends when killed; only its pid is used, so whoever likes may wait for it."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def wait_readable(fd: int) -> None:
    with Epoll() as epoll:
        epoll.add(fd, EPOLLIN)
        [(events, _)] = epoll.wait(10.0)
        assert events & EPOLLIN


def test_it_means_the_process_the_stdlibs_means(fdinfo: FdInfo) -> None:
    with child() as pid:
        ours, theirs = pidfd_open(pid), os.pidfd_open(pid)
        assert fdinfo(ours)["Pid"] == fdinfo(theirs)["Pid"] == str(pid)
        assert fdinfo(ours)["flags"] == fdinfo(theirs)["flags"]
        assert not os.get_inheritable(ours)
        os.close(ours)
        os.close(theirs)


def test_flags() -> None:
    fd = pidfd_open(os.getpid(), os.O_NONBLOCK)
    assert not os.get_blocking(fd)
    os.close(fd)
    with pytest.raises(OSError, match="pidfd_open") as caught:
        pidfd_open(os.getpid(), 1 << 30)
    assert caught.value.errno == errno.EINVAL


def test_no_such_process() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(ProcessLookupError, match=rf"pidfd_open: .* \(pid {pid}\)"):
        pidfd_open(pid)
    with pytest.raises(ProcessLookupError):
        os.pidfd_open(pid)
    with pytest.raises(ProcessLookupError):
        Pidfd(pid)


def test_a_childs_whole_life() -> None:
    with child() as pid, Pidfd(pid) as it, Epoll() as epoll:
        epoll.add(it.fd, EPOLLIN)
        assert it.pid == pid
        assert it.try_wait() is None
        it.send_signal(0)
        assert epoll.poll(0) == []
        it.send_signal(signal.SIGKILL)
        assert epoll.wait(10.0) == [(EPOLLIN, it.fd)]
        ended = it.try_wait()
        assert ended is not None
        assert (ended.si_pid, ended.si_code, ended.si_status) == (
            pid,
            os.CLD_KILLED,
            signal.SIGKILL,
        )
        with pytest.raises(ChildProcessError):
            it.try_wait()
        with pytest.raises(ProcessLookupError, match=rf"\(fd {it.fd}, signal 15\)"):
            it.send_signal(signal.SIGTERM)
        assert epoll.wait(0)[0][0] & ~EPOLLHUP == EPOLLIN


def test_an_exit_status() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(9)
    with Pidfd(pid) as it:
        wait_readable(it.fd)
        ended = it.try_wait()
        assert ended is not None
        assert (ended.si_code, ended.si_status) == (os.CLD_EXITED, 9)


def test_a_process_that_is_no_child() -> None:
    with Pidfd(os.getpid()) as it:
        with pytest.raises(ChildProcessError):
            it.try_wait()
        it.send_signal(0)


def test_signal_errors() -> None:
    with Pidfd(os.getpid()) as it, pytest.raises(OSError, match="pidfd_send_signal") as caught:
        it.send_signal(4711)
    assert caught.value.errno == errno.EINVAL
    with open("/dev/null") as no_pidfd, pytest.raises(OSError, match="pidfd_send_signal") as caught:
        pidfd_send_signal(no_pidfd.fileno(), 0)
    assert caught.value.errno == errno.EBADF


def test_a_signal_sent_to_oneself_arrives() -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda signum, frame: got.append(signum))
    with Pidfd(os.getpid()) as it:
        it.send_signal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)
    assert got == [signal.SIGUSR1]


def test_without_the_libcs_wrappers(monkeypatch: pytest.MonkeyPatch, fdinfo: FdInfo) -> None:
    monkeypatch.setattr(pidfd, "exists", lambda name: False)
    for name, number, argtypes in (
        ("_pidfd_open", 434, pidfd._OPEN),
        ("_pidfd_send_signal", 424, pidfd._SEND_SIGNAL),
    ):
        monkeypatch.setattr(pidfd, name, pidfd._bind(name[1:], number, *argtypes))
    assert not isinstance(pidfd._pidfd_open, type(libc.quick("read")))
    with child() as pid, Pidfd(pid) as it:
        assert fdinfo(it.fd)["Pid"] == str(pid)
        it.send_signal(signal.SIGKILL)
        wait_readable(it.fd)
        assert it.try_wait() is not None
        with pytest.raises(ProcessLookupError, match="pidfd_open"):
            Pidfd(pid)


def test_after_fork_the_child_may_signal_but_not_wait(
    in_child: Callable[[Callable[[], None]], None],
) -> None:
    with child() as pid, Pidfd(pid) as it:

        def in_fork() -> None:
            with pytest.raises(ChildProcessError):
                it.try_wait()
            it.send_signal(signal.SIGKILL)

        in_child(in_fork)
        wait_readable(it.fd)
        assert it.try_wait() is not None
