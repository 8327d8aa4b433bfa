from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys

import pytest

from greenpump.sys import libc


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EAGAIN, BlockingIOError),
        (errno.EEXIST, FileExistsError),
        (errno.EINTR, InterruptedError),
        (errno.ENOENT, FileNotFoundError),
        (errno.EPERM, PermissionError),
        (errno.ESRCH, ProcessLookupError),
        (errno.EBADF, OSError),
    ],
)
def test_error_has_pythons_class_the_call_and_the_detail(number: int, kind: type) -> None:
    error = libc.error(number, "epoll_ctl ADD", "fd 7")
    assert type(error) is kind
    assert error.errno == number
    assert error.strerror == f"epoll_ctl ADD: {os.strerror(number)} (fd 7)"


def test_error_without_detail() -> None:
    assert libc.error(errno.EMFILE, "eventfd").strerror == f"eventfd: {os.strerror(errno.EMFILE)}"


@pytest.mark.parametrize("result", [0, 1, 1 << 40])
def test_check_returns_what_is_no_failure(result: int) -> None:
    assert libc.check(result, "dup") == result


@pytest.mark.parametrize("make", [libc.quick, libc.sleeping])
def test_check_reads_the_errno_of_the_call_that_failed(make: type) -> None:
    dup = make("dup", ctypes.c_int)
    with pytest.raises(OSError, match=r"dup: Bad file descriptor \(fd -1\)") as caught:
        libc.check(dup(-1), "dup", "fd -1")
    assert caught.value.errno == errno.EBADF


def test_errno_is_not_disturbed_by_python_calls_in_between() -> None:
    dup = libc.quick("dup", ctypes.c_int)
    result = dup(-1)
    with pytest.raises(FileNotFoundError):
        os.stat("/nowhere")
    with pytest.raises(OSError, match="dup: Bad file descriptor"):
        libc.check(result, "dup")


def test_declarations_stay_with_the_function_that_made_them() -> None:
    declared = libc.quick("dup", ctypes.c_int)
    plain = libc.quick("dup")
    assert declared.argtypes == (ctypes.c_int,)  # type: ignore[attr-defined]
    assert plain.argtypes is None  # type: ignore[attr-defined]
    assert ctypes.CDLL(None)["dup"].argtypes is None


def test_exists() -> None:
    assert libc.exists("epoll_wait")
    assert not libc.exists("epoll_nothing")
    with pytest.raises(AttributeError, match="epoll_nothing"):
        libc.quick("epoll_nothing")


@pytest.mark.parametrize("module", ["greenpump", "greenpump.sys"])
def test_elsewhere_the_import_says_what_is_needed(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.platform = 'darwin'; import {module}"],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    last = done.stderr.splitlines()[-1]
    assert last == "ImportError: greenpump needs Linux, whose epoll it is built on; this is darwin"
