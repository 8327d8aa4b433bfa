"""File: regular files, beside those of the builtin open."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenpump as gp
from greenpump.files.offloaded import AHEAD, File
from greenpump.files.opening import open as gp_open
from greenpump.testing import wait_all_parked

LINES = [f"line {n} é{'x' * (n % 50)}\n" for n in range(5000)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("".join(LINES), "utf-8")
    return path


def answer(file: Any, name: str, args: tuple[Any, ...]) -> Any:
    try:
        return getattr(file, name)(*args)
    except StopIteration as error:
        return type(error)
    except (OSError, ValueError, TypeError) as error:
        return type(error), str(error)


BOTH: list[tuple[str, tuple[Any, ...]]] = [
    ("read", (7,)),
    ("read", ()),
    ("readline", ()),
    ("readline", (3,)),
    ("readlines", (30,)),
    ("seek", (4,)),
    ("seek", (0, 2)),
    ("seek", (0,)),
    ("tell", ()),
    ("truncate", ()),
    ("truncate", (9,)),
    ("flush", ()),
    ("next", ()),
    ("readable", ()),
    ("writable", ()),
    ("seekable", ()),
    ("isatty", ()),
]
BINARY = [*BOTH, ("write", (b"abc\n",)), ("writelines", ([b"x", b"y\n"],)), ("seek", (-3, 1))]
TEXT = [*BOTH, ("write", ("äbc\n",)), ("writelines", (["x", "y\n"],))]


def compare(tmp: Path, mode: str, calls: list[tuple[str, tuple[Any, ...]]]) -> None:
    paths = [tmp / "mine", tmp / "theirs"]
    content = "one\ntwö\nthree\n\nlast".encode()
    encoding = None if "b" in mode else "utf-8"
    for path in paths:
        path.write_bytes(content)
    with (
        gp_open(paths[0], mode, encoding=encoding) as mine,
        open(paths[1], mode, encoding=encoding) as theirs,
    ):
        for name, args in calls:
            # The stdlib's next() forbids tell(); readline doesn't, and gives the same.
            if name == "next":
                line = answer(theirs, "readline", ())
                expected = StopIteration if line == theirs.read(0) else line
                assert answer(mine, "__next__", ()) == expected
            else:
                assert answer(mine, name, args) == answer(theirs, name, args)
            if encoding and name in ("truncate", "write", "writelines"):
                # What the stdlib's text files had read or not yet written, they mix up otherwise.
                assert mine.seek(0) == theirs.seek(0)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    for name, args in calls:
        if name not in ("next", "seekable"):
            assert answer(mine, name, args) == answer(theirs, name, args)


@pytest.fixture(scope="module")
def tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@settings(max_examples=40)  # each call is a trip to a thread
@given(
    calls=st.lists(st.sampled_from(BINARY), max_size=10), mode=st.sampled_from(["rb", "r+b", "a+b"])
)
def test_binary_files_answer_as_the_builtin_opens(
    tmp: Path, calls: list[tuple[str, tuple[Any, ...]]], mode: str
) -> None:
    compare(tmp, mode, calls)


@settings(max_examples=40)
@given(calls=st.lists(st.sampled_from(TEXT), max_size=10), mode=st.sampled_from(["r", "r+", "a+"]))
def test_text_files_answer_as_the_builtin_opens(
    tmp: Path, calls: list[tuple[str, tuple[Any, ...]]], mode: str
) -> None:
    compare(tmp, mode, calls)


def test_iteration_and_other_calls_mix(path: Path) -> None:
    for mode, encoding in (("r", "utf-8"), ("rb", None)):
        with (
            open(path, mode, encoding=encoding) as theirs,
            gp_open(path, mode, encoding=encoding) as mine,
        ):
            assert next(mine) == theirs.readline()
            assert mine.tell() == theirs.tell()
            assert [next(mine) for _ in range(100)] == [theirs.readline() for _ in range(100)]
            assert mine.read(1000) == theirs.read(1000)
            assert list(mine) == list(theirs)
            assert list(mine) == []
            mine.seek(0)
            theirs.seek(0)
            assert list(mine) == list(theirs)


def test_iteration_makes_one_trip_for_many_lines(path: Path) -> None:
    trips: list[str] = []
    size = path.stat().st_size
    with gp_open(path, encoding="utf-8") as file:
        assert isinstance(file, File)
        run = file._run

        def counted(begun: Any, name: str, args: Any) -> Any:
            trips.append(name)
            return run(begun, name, args)

        file._run = counted  # type: ignore[method-assign]
        assert sum(1 for _ in file) == len(LINES)
    assert len(trips) <= size // AHEAD + 3


def test_others_run_while_the_disk_works(tmp_path: Path) -> None:
    file, other = slow_file(tmp_path)
    task = gp.spawn(file.read, 3)
    wait_all_parked_but_offload(task)
    assert not task.done
    os.write(other, b"abc")
    assert task.result(30) == b"abc"
    file.close()
    os.close(other)


def wait_all_parked_but_offload(task: gp.Task[Any]) -> None:
    while "offloaded call" not in task.state():
        gp.yield_now()


def test_calls_are_made_in_their_order(tmp_path: Path) -> None:
    with gp_open(tmp_path / "file", "w") as file:
        tasks = [gp.spawn(file.write, f"{n}\n") for n in range(50)]
        for task in tasks:
            task.result(30)
    assert (tmp_path / "file").read_text() == "".join(f"{n}\n" for n in range(50))


def slow_file(tmp_path: Path) -> tuple[File[bytes], int]:
    """A file whose disk is slow: a FIFO, read in a thread, until something is written to the fd."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    other = os.open(fifo, os.O_RDWR)
    return File(open(fifo, "rb", buffering=0)), other


def test_a_cancelled_call_keeps_its_turn_and_one_in_line_is_never_made(tmp_path: Path) -> None:
    file, other = slow_file(tmp_path)
    one = gp.spawn(file.read, 1)
    wait_all_parked_but_offload(one)
    two, three = gp.spawn(file.read, 1), gp.spawn(file.read, 1)
    for task in (one, two):
        gp.yield_now()
        task.cancel()
        task.join()
        assert task.cancelled
    assert not three.done
    os.write(other, b"ab")
    assert three.result(30) == b"b"  # the first call, cancelled as it was, has read the a
    file.close()
    os.close(other)


def test_close_is_not_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with gp.move_on_after() as scope, gp_open(path, "w") as file:
        file.write("kept")
        scope.cancel()
        gp.sleep(30)
    assert scope.expired
    assert path.read_text() == "kept"
    assert file.closed


def test_several_hubs_and_threads(tmp_path: Path) -> None:
    with gp_open(tmp_path / "file", "wb") as file:

        def body(letter: bytes) -> None:
            for _ in range(100):
                file.write(letter * 10)

        threads = [threading.Thread(target=body, args=(b"%d" % n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        body(b"m")
        for thread in threads:
            gp.offload(thread.join)
    data = (tmp_path / "file").read_bytes()
    assert len(data) == 4000
    assert all(len(set(data[at : at + 10])) == 1 for at in range(0, 4000, 10))


def test_within_offload(path: Path) -> None:
    with gp_open(path, encoding="utf-8") as file:
        assert gp.offload(file.read) == "".join(LINES)
        file.seek(0)
        assert gp.offload(lambda: sum(1 for _ in file)) == len(LINES)


def test_two_tasks_iterate_and_no_line_is_lost(path: Path) -> None:
    found: list[str] = []
    with gp_open(path, encoding="utf-8") as file:

        def read() -> None:
            for line in file:
                found.append(line)
                if len(found) % 100 == 0:
                    gp.yield_now()

        tasks = [gp.spawn(read) for _ in range(3)]
        for task in tasks:
            task.result(30)
    assert sorted(found) == sorted(LINES)


def test_readinto_never_writes_after_a_cancel(tmp_path: Path) -> None:
    file, other = slow_file(tmp_path)
    buffer = bytearray(3)
    task = gp.spawn(file.readinto, buffer)
    wait_all_parked_but_offload(task)
    task.cancel()
    task.join()
    os.write(other, b"abcd")
    assert file.read(1) == b"d"
    assert buffer == bytes(3)
    file.close()
    os.close(other)


def test_readinto_and_peek(path: Path) -> None:
    with gp_open(path, "rb") as file:
        assert isinstance(file, File)
        buffer = bytearray(6)
        assert file.readinto(buffer) == 6
        assert buffer == b"line 0"
        assert file.readinto1(memoryview(buffer)[:1]) == 1
        assert file.peek()[:2] == "é".encode()
        assert file.read1(2) == "é".encode()


def test_what_it_is(path: Path) -> None:
    file: Any = gp_open(path, "r+", encoding="utf-8")
    with file:
        assert issubclass(File, io.IOBase)
        assert (file.name, file.mode, file.encoding) == (str(path), "r+", "utf-8")
        assert repr(file) == f"<File of {file._file!r}>"
        with pytest.raises(AttributeError, match="no attribute 'detach'"):
            file.detach()
    for call in (file.read, file.fileno, file.__enter__, file.__iter__, file.seekable):
        with pytest.raises(ValueError, match="closed file"):
            call()
    file.close()


def test_json_reads_and_writes_it(tmp_path: Path) -> None:
    with gp_open(tmp_path / "file", "w") as file:
        json.dump({"a": [1, 2]}, file)
    with gp_open(tmp_path / "file") as file:
        assert json.load(file) == {"a": [1, 2]}


def test_an_error_of_the_disk_is_raised_in_the_task() -> None:
    raw = gp_open("/dev/full", "wb", buffering=0)
    with raw, pytest.raises(OSError, match="No space left"):
        raw.write(b"x")
    buffered = gp_open("/dev/full", "w")
    buffered.write("x")
    with pytest.raises(OSError, match="No space left"):
        buffered.close()
    assert buffered.closed


def test_wait_reason(tmp_path: Path) -> None:
    file, other = slow_file(tmp_path)
    task = gp.spawn(file.read, 1)
    wait_all_parked_but_offload(task)
    assert task.state() == "offloaded call of File._run"
    os.write(other, b"x")
    task.result(30)
    wait_all_parked()
    file.close()
    os.close(other)
