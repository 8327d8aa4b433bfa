"""File: a regular file whose calls run in the threads of ``offload``.

Invariants
----------
1. Beneath is the file that the builtin ``open`` makes, and every call is one of its methods: text,
   buffering, seeking and errors are the standard library's.
2. One call at a time, in the order of calling: who holds the one place of ``_turn``. A call that
   was cancelled while its thread ran it keeps the place until the thread is done with it; one that
   was not begun never is. The lock ``begun`` decides which of the two it is.
3. Iteration reads ahead, ``AHEAD`` characters or bytes of lines in one trip to the thread, since a
   trip costs as much as a hundred lines. Any other call first seeks back to where the program is.

Rejected: a raw file that offloads under ``io.BufferedReader`` (see ``stream.py``; and each call
would make several trips); a pool of one thread for each file (a thousand files are a thousand
threads); io_uring (the seccomp profiles of most containers forbid it).
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable
from threading import Lock
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from ..hub.scope import shield
from ..offload import offload
from ..sync.channel import Channel

S = TypeVar("S", str, bytes)

AHEAD: Final = 65536


class File(Generic[S]):
    """A file of the builtin ``open`` whose calls park the task while a thread makes them.

    Made by ``open`` and ``from_fd``. It has the methods and attributes of the file beneath, text or
    binary; there is no ``detach``, ``raw`` or ``buffer``. Each call is a trip to a thread, some 25
    µs: write and read in large pieces. Iterating by line doesn't cost that for each line.

    Usable by several tasks at once, also of other hubs: calls are made one after the other. When a
    call is cancelled, how far it got is unknown: data it read is lost, and position and contents
    may have changed. ``close`` is not cancelled: it parks until what was written is in the kernel.

    Source: trio.open_file's files.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self._turn: Channel[None] = Channel(1)
        self._ahead_lock = Lock()
        self._ahead: deque[S] = deque()
        self._batch = 0
        self._mark = 0
        self._seekable: bool = file.seekable()

    # -- calls that park -------------------------------------------------------------------------

    def read(self, size: int | None = -1, /) -> S:
        """Read ``size`` characters or bytes, all that is left if it is negative."""
        data: S = self._call("read", size)
        return data

    def read1(self, size: int = -1, /) -> S:
        """Read with one call of the kernel at most. Binary files."""
        data: S = self._call("read1", size)
        return data

    def readinto(self, buffer: Any, /) -> int:
        """Read into a writable buffer; how many bytes. Binary files.

        By way of a copy, so that a call that is cancelled never writes to ``buffer``.
        """
        return self._into(buffer, "read")

    def readinto1(self, buffer: Any, /) -> int:
        """``readinto`` with one call of the kernel at most. Binary files."""
        return self._into(buffer, "read1")

    def peek(self, size: int = 0, /) -> S:
        """What comes next, without taking it. Binary files."""
        data: S = self._call("peek", size)
        return data

    def readline(self, size: int | None = -1, /) -> S:
        """Read a line with its end, at most ``size`` of it; empty at the end of the file."""
        data: S = self._call("readline", -1 if size is None else size)
        return data

    def readlines(self, hint: int | None = -1, /) -> list[S]:
        """The lines to the end, or until they have more than ``hint`` characters or bytes."""
        lines: list[S] = self._call("readlines", hint)
        return lines

    def write(self, data: S, /) -> int:
        """Write ``data``; returns how much. As ever, a buffer may hold it until ``flush``."""
        if not isinstance(data, (str, bytes)):
            data = bytes(memoryview(data))  # the thread may still read it after a cancel
        written: int = self._call("write", data)
        return written

    def writelines(self, lines: Iterable[S], /) -> None:
        """Write each of ``lines``, in one trip."""
        self._call("writelines", list(lines))

    def flush(self) -> None:
        """Hand what was written to the kernel."""
        self._call("flush")

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to ``offset``; the new position."""
        position: int = self._call("seek", offset, whence)
        return position

    def tell(self) -> int:
        """The position; while iterating, too."""
        position: int = self._call("tell")
        return position

    def truncate(self, size: int | None = None, /) -> int:
        """Cut or extend the file to ``size`` bytes, by default up to the position."""
        new_size: int = self._call("truncate", size)
        return new_size

    def close(self) -> None:
        """Write what is in the buffer and close. Harmless when closed. Raises OSError as write(2).

        Parks until that is done and until a cancelled call has ended, in a cancelled scope as well.
        """
        if not self._file.closed:
            with shield():
                self._call("close")

    def __iter__(self) -> Self:
        if self._file.closed:
            raise ValueError("I/O operation on closed file")
        return self

    def __next__(self) -> S:
        while True:
            with self._ahead_lock:
                if self._ahead:
                    return self._ahead.popleft()
            if not self._call("next"):
                raise StopIteration

    # -- calls that don't ------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        closed: bool = self._file.closed
        return closed

    def fileno(self) -> int:
        """The fd. Raises ValueError when closed."""
        fd: int = self._file.fileno()
        return fd

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        answer: bool = self._file.isatty()
        return answer

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        answer: bool = self._file.readable()
        return answer

    def writable(self) -> bool:
        """Whether it was opened for writing."""
        answer: bool = self._file.writable()
        return answer

    def seekable(self) -> bool:
        """Whether it has positions."""
        if self._file.closed:
            raise ValueError("I/O operation on closed file")
        return self._seekable

    def __getattr__(self, name: str) -> Any:
        if name in ("name", "mode", "encoding", "errors", "newlines", "line_buffering"):
            return getattr(self._file, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # -- in turn ---------------------------------------------------------------------------------

    def _call(self, name: str, *args: Any) -> Any:
        """Make one call in a thread, after those before it."""
        begun = Lock()
        self._turn.send(None)
        try:
            return offload(self._run, begun, name, args)
        except BaseException:
            if begun.acquire(blocking=False):
                self._turn.try_recv()  # it was never made, and never will be
            raise

    def _run(self, begun: Lock, name: str, args: tuple[Any, ...]) -> Any:
        """The thread's side."""
        if not begun.acquire(blocking=False):
            return None
        try:
            if name == "next":
                return self._read_ahead()
            if name == "close":
                with self._ahead_lock:
                    self._ahead.clear()
            elif self._ahead:
                self._step_back()
            return getattr(self._file, name)(*args)
        finally:
            self._turn.try_recv()

    def _read_ahead(self) -> bool:
        """Get the next lines for the iteration; False at the end of the file."""
        if self._ahead:
            return True  # another task's
        file = self._file
        mark = file.tell() if self._seekable and file.readable() else 0
        lines: list[S] = []
        size = 0
        while size < AHEAD:
            line = file.readline()
            if not line:
                break
            lines.append(line)
            size += len(line)
            if not self._seekable:
                break  # the next one may be long in coming
        with self._ahead_lock:
            self._mark = mark
            self._batch = len(lines)
            self._ahead.extend(lines)
        return bool(lines)

    def _step_back(self) -> None:
        """Give back the lines that were read ahead: go to where the program believes to be."""
        with self._ahead_lock:
            returned = self._batch - len(self._ahead)
            self._ahead.clear()
        self._file.seek(self._mark)
        for _ in range(returned):
            self._file.readline()

    def _into(self, buffer: Any, name: str) -> int:
        with memoryview(buffer) as given, given.cast("B") as view:
            data = self._call(name, len(view))
            view[: len(data)] = data
            return len(data)

    def __enter__(self) -> Self:
        if self._file.closed:
            raise ValueError("I/O operation on closed file")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<File of {self._file!r}>"


io.IOBase.register(File)
