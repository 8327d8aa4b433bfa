"""open, from_fd and pipe: which kind of file comes of what."""

from __future__ import annotations

import gc
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import greenpump as gp
import greenpump.offload
from greenpump.files.offloaded import File
from greenpump.files.opening import from_fd, pipe
from greenpump.files.opening import open as gp_open
from greenpump.files.stream import Stream
from greenpump.files.text import TextStream
from greenpump.testing import wait_all_parked

ROOT = Path(__file__).parents[2]
offload: Any = sys.modules["greenpump.offload"]  # its name is the function's as well


def outcome(fn: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        file = fn(*args, **kwargs)
    except (OSError, ValueError, LookupError, TypeError) as error:
        return type(error), str(error)
    with file:
        return file.readable(), file.writable(), file.mode


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("there",), {}),
        (("there", "rb"), {}),
        (("there", "rb", 0), {}),
        (("there", "r+b"), {}),
        (("new", "w"), {"encoding": "latin-1"}),
        (("new", "x"), {}),
        (("there", "x"), {}),
        (("there", "a+"), {"newline": ""}),
        (("missing",), {}),
        (("there", "q"), {}),
        (("there", "rw"), {}),
        (("there", "r", 0), {}),
        (("there", "rb"), {"encoding": "utf-8"}),
        (("there",), {"encoding": "nosuchcodec"}),
        (("there",), {"newline": "x"}),
        (("there",), {"closefd": False}),
        ((".",), {}),
        ((b"there",), {}),
        ((Path("there"),), {}),
        (("there\0",), {}),
        ((1.5,), {}),
        (("there",), {"opener": lambda path, flags: os.open("there", flags)}),
    ],
)
def test_open_does_what_the_builtin_does(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    opens: list[Any] = [gp_open, open]
    for number, fn in enumerate(opens):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        Path("there").write_text("text")
        found.append(outcome(fn, *args, **kwargs))
    assert found[0] == found[1]


def test_what_kind_of_file_it_is(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    master, slave = pty.openpty()
    regular = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    null = os.open("/dev/null", os.O_RDWR)
    kinds = [
        (reader, "rb", Stream),
        (writer, "w", TextStream),
        (master, "r+b", Stream),
        (slave, "r+", TextStream),
        (regular, "r+", File),
        (null, "wb", File),
    ]
    for fd, mode, kind in kinds:
        with from_fd(fd, mode) as file:
            assert type(file) is kind
            assert file.fileno() == fd
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


@pytest.mark.parametrize("blocking", [True, False])
def test_an_fd_that_is_not_to_be_closed_gets_its_mode_back(blocking: bool) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, blocking)
    with from_fd(reader, "rb", closefd=False) as file:
        assert not os.get_blocking(reader)
        os.write(writer, b"x")
        assert file.read(1) == b"x"
    assert os.get_blocking(reader) is blocking
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("opener", [open, from_fd])
def test_one_that_does_not_own_its_fd_may_be_dropped(opener: Any) -> None:
    reader, writer = os.pipe()
    opener(reader, "rb", closefd=False)  # a ResourceWarning would be an error
    gc.collect()
    assert os.get_blocking(reader)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    ("mode", "kwargs", "words"),
    [
        ("q", {}, "invalid mode: 'q'"),
        ("rw", {}, "invalid mode: 'rw'"),
        ("", {}, "invalid mode: ''"),
        ("rb", {"encoding": "utf-8"}, "binary mode doesn't take an encoding"),
        ("r", {"buffering": 0}, "can't have unbuffered text"),
        ("r", {"newline": "x"}, "illegal newline"),
    ],
)
def test_bad_arguments_leave_the_fd_alone(mode: str, kwargs: Any, words: str) -> None:
    reader, writer = os.pipe()
    with pytest.raises(ValueError, match=words):
        from_fd(reader, mode, **kwargs)
    with pytest.raises(LookupError):
        from_fd(reader, encoding="nosuchcodec")
    assert os.get_blocking(reader)
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        from_fd(reader)


def test_pipe() -> None:
    reader, writer = pipe()
    with reader, writer:
        assert (reader.readable(), reader.writable()) == (True, False)
        assert (writer.readable(), writer.writable()) == (False, True)
        assert not os.get_inheritable(reader.fileno())
        task = gp.spawn(reader.readline)
        wait_all_parked()
        writer.write(b"hello\n")
        assert task.result(30) == b"hello\n"


def test_a_fifo_waits_for_its_other_end(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    task = gp.spawn(gp_open, fifo)
    while "offloaded call" not in task.state():
        gp.yield_now()
    with gp_open(fifo, "wb", 0) as writer:
        reader = task.result(30)
        with reader:
            kinds: list[type] = [type(reader), type(writer)]
            assert kinds == [TextStream, Stream]
            assert reader.name == writer.name == str(fifo)
            line = gp.spawn(reader.readline)
            wait_all_parked()
            writer.write(b"hello\n")
            assert line.result(30) == "hello\n"


def test_a_cancelled_open_leaves_nothing_open(tmp_path: Path) -> None:
    # conftest.py counts the fds, and ResourceWarnings are errors.
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    task = gp.spawn(gp_open, fifo, "rb")
    while "offloaded call" not in task.state():
        gp.yield_now()
    task.cancel()
    task.join()
    assert task.cancelled
    with gp_open(fifo, "wb"):  # lets the thread's open(2) return
        pass
    await_threads()


def await_threads() -> None:
    """Until what was cancelled has ended in its thread."""
    while offload._shared._running:
        gp.sleep(0.001)


def test_cancelled_opens_of_a_fast_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for _ in range(200):
        task = gp.spawn(gp_open, tmp_path / "file")
        gp.yield_now()
        task.cancel()
        task.join()
        if not task.cancelled:
            task.result().close()
    await_threads()


def test_an_opener_runs_in_another_thread(tmp_path: Path) -> None:
    threads: list[int] = []

    def opener(path: str, flags: int) -> int:
        threads.append(threading.get_ident())
        return os.open(path, flags, 0o600)

    with gp_open(tmp_path / "file", "w", opener=opener) as file:
        file.write("x")
    assert threads
    assert threads[0] != threading.get_ident()


STDIN = """
import greenpump as gp, sys
from greenpump.files.opening import from_fd
with from_fd(0, closefd=False) as stdin, from_fd(1, "w", closefd=False) as stdout:
    ticks = []
    gp.spawn(lambda: [ticks.append(gp.sleep(0.001)) for _ in range(10**6)])
    for line in stdin:
        print(type(stdin).__name__, line.strip(), len(ticks) > 0, file=stdout)
"""


def test_standard_input(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a\nb\n")
    with open(tmp_path / "in") as file:
        done = subprocess.run(
            [sys.executable, "-c", STDIN], stdin=file, capture_output=True, text=True, cwd=ROOT
        )
    assert [line.rsplit(" ", 1)[0] for line in done.stdout.splitlines()] == ["File a", "File b"]
    child = subprocess.Popen(
        [sys.executable, "-c", STDIN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        for n in range(3):
            child.stdin.write(f"{n}\n")
            child.stdin.flush()
            assert child.stdout.readline().startswith(f"TextStream {n} ")
        child.stdin.close()
    assert child.returncode == 0


def test_a_handler_that_raises_when_it_is_open_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def offload(fn: Any) -> None:
        made.append(fn())
        raise KeyboardInterrupt

    monkeypatch.setattr("greenpump.files.opening.offload", offload)
    with pytest.raises(KeyboardInterrupt):  # conftest.py counts the fds
        gp_open(tmp_path / "x", "w")
    assert made == [None]
