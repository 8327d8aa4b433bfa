"""O_NONBLOCK: got without harm to whoever shares the fd, and given back."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from greenpump.files.modes import Nonblocking, is_pollable, reopen

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pipe_fds() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            pass


def test_the_mode_is_set_and_given_back(pipe_fds: tuple[int, int]) -> None:
    reader, _ = pipe_fds
    mode = Nonblocking(reader)
    assert mode.fd == reader
    assert not os.get_blocking(reader)
    mode.restore()
    assert os.get_blocking(reader)
    os.set_blocking(reader, False)
    mode.restore()
    assert not os.get_blocking(reader)


def test_a_mode_that_was_there_stays(pipe_fds: tuple[int, int]) -> None:
    reader, _ = pipe_fds
    os.set_blocking(reader, False)
    Nonblocking(reader).release(closefd=False)
    assert not os.get_blocking(reader)


def test_release_closes_if_it_is_to(pipe_fds: tuple[int, int]) -> None:
    reader, _ = pipe_fds
    Nonblocking(reader).release(closefd=True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)


def test_restoring_what_was_closed_behind_our_back(pipe_fds: tuple[int, int]) -> None:
    reader, _ = pipe_fds
    mode = Nonblocking(reader)
    os.close(reader)
    mode.restore()


def test_a_pipe_opened_anew_is_the_same_pipe(pipe_fds: tuple[int, int]) -> None:
    reader, writer = pipe_fds
    for blocking in (True, False):
        for fd, how in ((reader, os.O_RDONLY), (writer, os.O_WRONLY)):
            new = reopen(fd, blocking=blocking)
            assert os.fstat(new).st_ino == os.fstat(fd).st_ino
            assert fcntl.fcntl(new, fcntl.F_GETFL) & os.O_ACCMODE == how
            assert os.get_blocking(new) is blocking
            assert os.get_blocking(fd)
            assert not os.get_inheritable(new)
            os.close(new)


def test_a_terminal_but_no_ptys_master_is_opened_anew() -> None:
    master, slave = pty.openpty()
    new = reopen(slave, blocking=False)
    assert os.ttyname(new) == os.ttyname(slave)
    with pytest.raises(OSError, match=f"fd {master} is the master"):
        reopen(master, blocking=False)
    for fd in (master, slave, new):
        os.close(fd)


def test_what_is_not_opened_anew(tmp_path: Path) -> None:
    one, two = socket.socketpair()
    with one, two, open(tmp_path / "file", "wb") as file:
        for fd in (one.fileno(), file.fileno()):
            with pytest.raises(OSError, match=f"fd {fd} is no pipe"):
                reopen(fd, blocking=False)


def test_a_fork_leaves_its_parents_mode_alone(pipe_fds: tuple[int, int]) -> None:
    reader, _ = pipe_fds
    mode = Nonblocking(reader)
    pid = os.fork()
    if not pid:
        mode.restore()
        os._exit(0)
    os.waitpid(pid, 0)
    assert not os.get_blocking(reader)
    mode.restore()
    assert os.get_blocking(reader)


def test_what_epoll_takes(tmp_path: Path, pipe_fds: tuple[int, int]) -> None:
    one, two = socket.socketpair()
    master, slave = pty.openpty()
    event = os.eventfd(0)
    folder = os.open(tmp_path, os.O_RDONLY)
    null = os.open("/dev/null", os.O_RDONLY)
    memory = os.memfd_create("memory")
    with one, two:
        for fd in (*pipe_fds, one.fileno(), master, slave, event):
            assert is_pollable(fd)
        for fd in (folder, null, memory):
            assert not is_pollable(fd)
    for fd in (master, slave, event, folder, null, memory):
        os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        is_pollable(folder)


STDIN = """
import os, sys
from greenpump.files.modes import Nonblocking
mode = Nonblocking(0)
print(mode.fd != 0, os.get_blocking(0), os.get_blocking(mode.fd), flush=True)
if len(sys.argv) > 1:
    os.kill(os.getpid(), 9)
"""


def stdin_program(stdin: int, *more: str) -> tuple[bytes, int]:
    done = subprocess.run(
        [sys.executable, "-c", STDIN, *more], cwd=ROOT, stdin=stdin, stdout=subprocess.PIPE
    )
    return done.stdout, done.returncode


def test_standard_input_is_left_alone(pipe_fds: tuple[int, int]) -> None:
    master, slave = pty.openpty()
    for fd in (pipe_fds[0], slave):
        assert stdin_program(fd, "die") == (b"True True False\n", -signal.SIGKILL)
        assert os.get_blocking(fd)
    os.close(master)
    os.close(slave)


def test_where_it_cannot_be_it_is_restored_at_the_end() -> None:
    one, two = socket.socketpair()
    with one, two:
        assert stdin_program(one.fileno()) == (b"False False False\n", 0)
        assert os.get_blocking(one.fileno())
