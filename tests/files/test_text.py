"""TextStream: a pipe as a text file, beside io.TextIOWrapper."""

from __future__ import annotations

import io
import locale
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenpump as gp
from greenpump.files.opening import pipe
from greenpump.files.stream import Stream
from greenpump.files.text import TextStream
from greenpump.testing import wait_all_parked

NEWLINES = [None, "", "\n", "\r", "\r\n"]


def fed(data: bytes) -> int:
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return reader


def holding(data: bytes, *args: Any) -> TextStream:
    return TextStream(Stream(fed(data)), *args)


CALLS: list[tuple[str, tuple[Any, ...]]] = [
    ("read", ()),
    ("read", (None,)),
    ("read", (0,)),
    ("read", (3,)),
    ("read", (50,)),
    ("readline", ()),
    ("readline", (2,)),
    ("readline", (0,)),
    ("readline", (30,)),
    ("readlines", ()),
    ("readlines", (4,)),
    ("__next__", ()),
]


def answer(file: Any, name: str, args: tuple[Any, ...]) -> Any:
    try:
        return getattr(file, name)(*args)
    except (StopIteration, ValueError) as error:
        return type(error)


@given(
    text=st.lists(
        st.sampled_from(["a", "é", "€", "𝄞", "\n", "\r", "\r\n", "b" * 20, "\u2028"])
    ).map("".join),
    newline=st.sampled_from(NEWLINES),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-7"]),
    calls=st.lists(st.sampled_from(CALLS), max_size=8),
)
def test_calls_answer_as_io_text_io_wrapper(
    text: str, newline: str | None, encoding: str, calls: list[tuple[str, tuple[Any, ...]]]
) -> None:
    data = text.encode(encoding)
    mine = holding(data, encoding, None, newline)
    with mine, open(fed(data), encoding=encoding, newline=newline) as theirs:
        for name, args in calls:
            assert answer(mine, name, args) == answer(theirs, name, args)
        assert answer(mine, "read", ()) == answer(theirs, "read", ())
        assert mine.newlines == theirs.newlines
    assert answer(mine, "read", ()) is ValueError


@given(
    pieces=st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"\xc3", b"\xa9", b"bc"])),
    newline=st.sampled_from(NEWLINES),
)
def test_however_it_comes_in_pieces(pieces: list[bytes], newline: str | None) -> None:
    reader, writer = pipe()
    with reader, writer, TextStream(reader, "utf-8", "replace", newline) as text:
        lines: list[str] = []
        task = gp.spawn(lambda: lines.extend(text.readlines()))
        for piece in pieces:
            writer.write(piece)
            wait_all_parked()
        writer.close()
        task.result(30)
    wrapped = io.TextIOWrapper(
        io.BytesIO(b"".join(pieces)), "utf-8", errors="replace", newline=newline
    )
    assert lines == wrapped.readlines()


@pytest.mark.parametrize("newline", NEWLINES)
def test_writes_as_io_text_io_wrapper(newline: str | None) -> None:
    text = "a\nb\r\nc\rd é\n"
    reader, writer = pipe()
    with reader, TextStream(writer, "utf-8", None, newline) as out:
        assert out.write(text) == len(text)
        out.writelines(["x\n", "y"])
        print("printed", 1, file=out)
        out.flush()
        out.close()
        written = reader.read()
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, "utf-8", newline=newline) as theirs:
        theirs.write(text)
        theirs.writelines(["x\n", "y"])
        print("printed", 1, file=theirs)
        theirs.flush()
        assert written == raw.getvalue()


def test_a_cancelled_read_has_consumed_nothing() -> None:
    reader, writer = pipe()
    with writer, TextStream(reader, "utf-8") as text:
        for read in (text.readline, lambda: text.read(10), text.read, lambda: next(text)):
            writer.write("aé".encode() + b"\xe2")  # and a third of a character
            task = gp.spawn(read)
            wait_all_parked()
            task.cancel()
            task.join()
            assert task.cancelled
            writer.write(b"\x82\xac")
            assert text.read(3) == "aé€"


def test_lines_of_several_tasks_stay_whole() -> None:
    reader, writer = pipe()
    lines: list[str] = []

    def read() -> None:
        for line in text:
            lines.append(line)
            gp.yield_now()

    with writer, TextStream(reader, "utf-8") as text:
        tasks = [gp.spawn(read) for _ in range(4)]
        sent = [f"{n}€\n" for n in range(300)]
        whole = "".join(sent).encode()
        for at in range(0, len(whole), 5):
            writer.write(whole[at : at + 5])
            gp.yield_now()
        writer.close()
        for task in tasks:
            task.result(30)
    assert sorted(lines) == sorted(sent)


def test_bad_text_raises_and_names_the_place() -> None:
    with holding(b"ok\n\xff", "utf-8") as text, pytest.raises(UnicodeDecodeError):
        text.read()
    with holding(b"\xc3", "utf-8") as text, pytest.raises(UnicodeDecodeError, match="unexpected"):
        text.readline()
    reader, writer = pipe()
    with reader, TextStream(writer, "ascii") as out, pytest.raises(UnicodeEncodeError):
        out.write("é")


def test_what_it_is() -> None:
    with holding(b"", "latin-1", "ignore") as text:
        assert issubclass(TextStream, io.TextIOBase)
        assert (text.encoding, text.errors, text.mode) == ("latin-1", "ignore", "r")
        assert (text.readable(), text.writable(), text.seekable(), text.isatty()) == (
            True, False, False, False,
        )  # fmt: skip
        assert text.name == text.fileno()
        assert repr(text) == f"<TextStream fd={text.fileno()} mode='r' encoding='latin-1'>"
        for call in (text.tell, text.truncate, lambda: text.seek(0), lambda: text.write("x")):
            with pytest.raises(io.UnsupportedOperation):
                call()
        with pytest.raises(TypeError, match="must be str, not bytes"):
            text.write(b"x")  # type: ignore[arg-type]
    assert text.closed
    assert "closed" in repr(text)
    reader, writer = pipe()
    with reader, TextStream(writer) as out, pytest.raises(io.UnsupportedOperation):
        out.read(1)


def test_bad_arguments() -> None:
    reader, writer = pipe()
    with reader, writer:
        with pytest.raises(ValueError, match="illegal newline"):
            TextStream(reader, newline="x")
        with pytest.raises(LookupError):
            TextStream(reader, "nosuchcodec")
        with pytest.raises(LookupError):
            TextStream(reader, errors="nosuchhandler")


def test_the_encoding_of_the_locale_has_a_name() -> None:
    reader, writer = pipe()
    with TextStream(reader, "locale") as file, writer:
        assert file.encoding == locale.getencoding()
        writer.write(b"a\n")
        assert file.readline() == "a\n"
