"""open, from_fd and pipe: what makes files.

What epoll takes becomes a Stream, all else a File. As with the builtin ``open``, text mode is the
default, and ``buffering=0`` is for binary mode alone.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from threading import Lock
from typing import IO, Any, Literal, overload

from ..offload import offload
from .modes import is_pollable
from .offloaded import File
from .stream import Stream
from .text import TextStream, check_text

__all__ = ["from_fd", "open", "pipe"]

_open: Callable[..., Any] = io.open
Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Opener = Callable[[str, int], int]
TextMode = Literal[
    "r", "w", "a", "x", "rt", "wt", "at", "xt", "r+", "w+", "a+", "x+", "rt+", "wt+", "r+t", "w+t"
]
BinaryMode = Literal["rb", "wb", "ab", "xb", "rb+", "wb+", "ab+", "xb+", "r+b", "w+b", "a+b", "x+b"]


@overload
def open(
    file: Path | int,
    mode: TextMode = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> IO[str]: ...
@overload
def open(
    file: Path | int,
    mode: BinaryMode,
    buffering: int = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> IO[bytes]: ...
@overload
def open(
    file: Path | int,
    mode: str,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> IO[Any]: ...
def open(
    file: Path | int,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> IO[Any]:
    """Open a file whose calls park the task in place of blocking the thread. Parks.

    Parameters and errors are those of the builtin ``open``; ``opener`` is called in another thread.
    Returns a ``File`` for a regular file, and a ``Stream`` or ``TextStream`` for what epoll takes:
    a FIFO (for whose other end it waits, as open(2) does), a terminal. An fd in place of a path is
    ``from_fd``. Close it, or leave its ``with`` block: a file that is dropped is closed with a
    ResourceWarning.

    When the wait is cancelled nothing stays open. Source: builtins.open, trio.open_file.
    """
    if isinstance(file, int):
        return from_fd(file, mode, buffering, encoding, errors, newline, closefd)
    if not closefd:
        raise ValueError("Cannot use closefd=False with file name")
    opened: list[Any] = []
    arrived = Lock()

    def in_thread() -> None:
        opened.append(_open(file, mode, buffering, encoding, errors, newline, True, opener))
        if not arrived.acquire(blocking=False):
            opened[0].close()  # nobody waits for it any more

    try:
        offload(in_thread)
    except BaseException:
        if not arrived.acquire(blocking=False) and opened:
            opened[0].close()
        raise
    made = opened.pop()
    fd = made.fileno()
    if not is_pollable(fd):
        return File(made)  # type: ignore[return-value]
    try:
        fd = os.dup(fd)
    finally:
        made.close()
    try:
        stream = from_fd(fd, mode, buffering, encoding, errors, newline)
    except BaseException:
        os.close(fd)
        raise
    (stream if isinstance(stream, Stream) else stream.buffer).name = os.fspath(file)  # type: ignore[attr-defined]
    return stream


@overload
def from_fd(
    fd: int,
    mode: TextMode = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
) -> IO[str]: ...
@overload
def from_fd(
    fd: int,
    mode: BinaryMode,
    buffering: int = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
) -> IO[bytes]: ...
@overload
def from_fd(
    fd: int,
    mode: str,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
) -> IO[Any]: ...
def from_fd(
    fd: int,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
) -> IO[Any]:
    """A file over an open fd: a ``Stream`` or ``TextStream`` if epoll takes it, else a ``File``.

    For pipes, terminals, the two ends of a pty, inotify and the like; ``from_fd(0, closefd=False)``
    is standard input. ``mode`` has to fit how the fd was opened. With ``closefd`` the file owns the
    fd. Doesn't park.

    A stream's fd is made non-blocking. A pipe or terminal that is fd 0, 1 or 2 is opened anew for
    that, since others share it (``fileno()`` is then another number); elsewhere the mode is given
    back at ``close`` and at the end of the program.

    Raises OSError (EBADF), ValueError and LookupError as ``open``. Source: os.fdopen.
    """
    text = "b" not in mode
    if buffering == 0 and text:
        raise ValueError("can't have unbuffered text I/O")
    if not text and (encoding, errors, newline) != (None, None, None):
        raise ValueError("binary mode doesn't take an encoding, errors or newline argument")
    if sum(mode.count(letter) for letter in "rwax") != 1 or not set(mode) <= set("rwaxbt+"):
        raise ValueError(f"invalid mode: {mode!r}")
    if not is_pollable(fd):
        made = _open(fd, mode, buffering, encoding, errors, newline, closefd)
        return File(made)  # type: ignore[return-value]
    if text:
        check_text(encoding, errors, newline)
    stream: Any = Stream(fd, mode, buffered=buffering != 0, closefd=closefd)
    return TextStream(stream, encoding, errors, newline) if text else stream  # type: ignore[return-value]


def pipe() -> tuple[Stream, Stream]:
    """A pipe: the end to read from, and the end to write to. Doesn't park.

    Wrap one in ``TextStream`` for text. Raises OSError (EMFILE, ENFILE). Source: os.pipe2, man 2
    pipe.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    return Stream(reader, "rb"), Stream(writer, "wb")
