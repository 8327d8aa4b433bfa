"""Stream: a pipe, a terminal or whatever else epoll takes, as a binary file.

Invariants
----------
1. What was read and not yet returned lies in ``_buffer``. Every read fills it until it can be
   answered, and takes from it only then, without a wait in between: a read that is cancelled has
   consumed nothing, and two tasks that read lines each get whole ones.
2. One task at a time asks the kernel, in the order of coming: who holds the one place of
   ``_reading``. The next finds that ``_fills`` has changed, and looks at the buffer first. So bytes
   stay in their order whichever threads read, and nobody waits for what another has read.
   ``_lock`` guards the buffer; nobody parks while holding it.
3. A write is in the kernel when ``write`` returns: there is no write buffer. So ``flush`` has
   nothing to do, ``close`` never parks, and nothing is lost to a task that is cancelled between
   the two. Writes of several tasks don't mix: they take turns, too.
4. The fd is non-blocking (``modes.py``).

Rejected: ``io.BufferedReader`` over a raw file that parks (it holds a lock of its own while its raw
file parks, and refuses the next task of the same thread as "reentrant"; on free-threaded builds its
C frames hold what greenlet doesn't switch).
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable
from operator import index
from threading import Lock
from types import TracebackType
from typing import Any, Final, Self

from ..errors import DelimiterNotFound, IncompleteRead
from ..hub.pollable import READ, WRITE, YES, Pollable
from ..sync.channel import Channel
from .modes import Nonblocking

SMALL: Final = 4096
LARGE: Final = 65536
"""Bytes that one read of the kernel asks for: the small number until it was not enough."""


class Stream:
    """A binary file over a pollable fd, whose calls park where others block.

    Made by ``pipe``, ``from_fd``, ``open`` and ``Popen``. It has the interface of a buffered binary
    file (``io.BufferedReader``, ``io.BufferedWriter``), but for seeking; with ``buffering=0`` that
    of a raw one: ``read(n)`` returns what there is, and never takes more than it returns.

    Usable by several tasks at once, also of other hubs. A read that is cancelled has consumed
    nothing; how much of a cancelled ``write`` was written is unknown. Closing wakes who waits:
    they get ValueError, as from every call on a closed file. In a ``select`` it is ``readable``
    when the kernel has something; what ``buffered`` returns is not counted.

    Source: io.BufferedReader, io.BufferedWriter, io.FileIO.
    """

    def __init__(
        self, fd: int, mode: str = "rb", *, buffered: bool = True, closefd: bool = True
    ) -> None:
        self._readable = "r" in mode or "+" in mode
        self._writable = "r" not in mode or "+" in mode
        self._buffered = buffered
        self._closefd = closefd
        self._lock = Lock()
        self._buffer = bytearray()
        self._taken = 0
        self._fills = 0
        self._size = SMALL
        self._reading: Channel[None] = Channel(1)
        self._writing: Channel[None] = Channel(1)
        self._nonblocking = Nonblocking(fd)
        self._fd = self._nonblocking.fd
        self._pollable = Pollable(self._fd)
        self.mode = mode
        self.name: Any = fd

    # -- reading ---------------------------------------------------------------------------------

    def read(self, size: int | None = -1, /) -> bytes:
        """Read ``size`` bytes, fewer only at the end; all there are to come if it is negative.

        Parks until they are there. Raises OSError as read(2), ValueError when closed.
        """
        self._check(self._readable, "reading")
        size = -1 if size is None else index(size)
        if size < 0:
            self.read_ahead()
            return self.take(-1)
        if not self._buffered:
            return self.read1(size)
        self.gather(size)
        return self.take(size)

    def read1(self, size: int = -1, /) -> bytes:
        """Read what there is, at most ``size`` bytes; parks only if that is nothing."""
        self._check(self._readable, "reading")
        size = LARGE if size < 0 else index(size)
        while size:
            fills = self._fills
            if self._buffer or not self._fill(fills, None if self._buffered else size):
                break
        return self.take(size)

    def readinto(self, buffer: Any, /) -> int:
        """Read into a writable buffer until it is full or the end is reached; how many bytes."""
        return _copy_into(buffer, self.read)

    def readinto1(self, buffer: Any, /) -> int:
        """Read what there is into a writable buffer; parks only if that is nothing."""
        return _copy_into(buffer, self.read1)

    def peek(self, size: int = 0, /) -> bytes:
        """What the next read would begin with, without taking it; b"" at the end. Parks."""
        self._check(self._readable, "reading")
        self.gather()
        with self._lock:
            return bytes(self._buffer)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read a line with its b"\\n", at most ``size`` bytes of it; b"" at the end. Parks."""
        if size == -1 and self._buffer and self._fd >= 0:
            with self._lock:
                end = self._buffer.find(b"\n") + 1
                if end:
                    return self._cut(end)
        return self._read_to(b"\n", -1 if size is None else index(size))[0]

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """The lines to the end, or until they have more than ``hint`` bytes. Parks."""
        return lines_of(self.readline, hint)

    def read_exactly(self, size: int) -> bytes:
        """Read ``size`` bytes, no more and no less; parks until they are there.

        Raises IncompleteRead (an EOFError) with the bytes that came in ``partial`` at an earlier
        end, ValueError for a negative size. Source: Go's io.ReadFull.
        """
        if index(size) < 0:
            raise ValueError(f"the number of bytes to read must not be negative: {size}")
        self._check(self._readable, "reading")
        while (missing := size - len(self._buffer)) > 0:
            if not self._fill(self._fills, None if self._buffered else missing):
                break
        data = self.take(size)
        if len(data) < size:
            raise IncompleteRead(f"fd {self._fd} ended after {len(data)} of {size} bytes", data)
        return data

    def read_until(self, delimiter: bytes, limit: int = 65536) -> bytes:
        """Read up to and with ``delimiter``, at most ``limit`` bytes; parks until it is there.

        Raises DelimiterNotFound (a ValueError) at the limit, IncompleteRead (an EOFError) at an
        earlier end, both with what they consumed in ``partial``. Source: readuntil of asyncio's
        StreamReader.
        """
        if not delimiter:
            raise ValueError("the delimiter must not be empty")
        data, found = self._read_to(bytes(delimiter), index(limit))
        if found:
            return data
        if len(data) >= limit:
            raise DelimiterNotFound(f"no {delimiter!r} within {limit} bytes of fd {self._fd}", data)
        raise IncompleteRead(
            f"fd {self._fd} ended after {len(data)} bytes without {delimiter!r}", data
        )

    def read_ahead(self) -> None:
        """Park until all has come, and keep it for the reads that follow."""
        self._check(self._readable, "reading")
        while self._fill(self._fills):
            pass

    def __iter__(self) -> Self:
        self._check(True, "iterating")
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def _read_to(self, end: bytes, limit: int) -> tuple[bytes, bool]:
        """The bytes up to and with ``end``, and whether it was found before limit or file end."""
        self._check(self._readable, "reading")
        buffer = self._buffer
        seen, taken = 0, self._taken
        while limit:
            fills = self._fills
            with self._lock:
                if taken != self._taken:
                    seen, taken = 0, self._taken
                at = buffer.find(end, seen) + len(end)
                found = at >= len(end)
                if 0 <= limit < (at if found else len(buffer) + 1):
                    return self._cut(limit), False
                if found:
                    return self._cut(at), True
                seen = max(0, len(buffer) - len(end) + 1)
            if not self._fill(fills, None if self._buffered else 1):
                with self._lock:
                    if end not in buffer:
                        return self._cut(limit), False
        return b"", False

    def buffered(self) -> bytes:
        """What was read and not yet returned. Doesn't park."""
        with self._lock:
            return bytes(self._buffer)

    def take(self, size: int) -> bytes:
        """Take up to ``size`` bytes that lie in the buffer. Doesn't park."""
        with self._lock:
            return self._cut(size)

    def _cut(self, size: int) -> bytes:
        """Take ``size`` bytes from the buffer, all if it is negative. The lock is held."""
        buffer = self._buffer
        self._taken += 1
        if 0 <= size < SMALL:
            data = bytes(buffer[:size])
        else:
            size = size if size >= 0 else len(buffer)
            with memoryview(buffer) as view:
                data = bytes(view[:size])
        del buffer[:size]
        return data

    def gather(self, size: int = 1) -> bool:
        """Park until ``size`` bytes lie in the buffer, or the end is reached; if any do."""
        while True:
            fills = self._fills
            if len(self._buffer) >= size or not self._fill(fills):
                return len(self._buffer) > 0

    def _fill(self, fills: int, size: int | None = None) -> bool:
        """Park until more stands in the buffer than after so many ``fills``; False at the end."""
        self._reading.send(None)
        try:
            if fills != self._fills:
                return True
            self._open_fd()  # it may have been closed while this task waited for its turn
            pollable = self._pollable
            readable = pollable.readable
            if readable and (readable == YES or pollable.probe()):
                self._charge()
            else:
                self._wait(READ)
            wanted = size or self._size
            data = self._read_some(wanted)
            with self._lock:
                self._buffer += data
                self._fills += 1
            got = len(data)
            if size is None:
                self._size = LARGE if got == wanted else SMALL
            # A short read says nothing: of a terminal it is a line, and of a pipe whose writer has
            # set O_DIRECT a packet, which can't be seen from here.
            pollable.more_to_read()
            if got == wanted:
                pollable.readable = YES
            return got > 0
        finally:
            self._reading.try_recv()

    def _read_some(self, wanted: int) -> bytes:
        while True:
            try:
                return os.read(self._open_fd(), wanted)
            except BlockingIOError:
                self._pollable.drained()
            except BaseException:
                self._pollable.more_to_read()
                raise
            self._wait(READ)

    # -- writing ---------------------------------------------------------------------------------

    def write(self, data: Any, /) -> int:
        """Write all of ``data``; parks until the kernel has taken it. Returns its size in bytes.

        With ``buffering=0`` it writes what the kernel takes at once, but at least a byte. Raises
        BrokenPipeError when nobody reads any more, OSError as write(2), ValueError when closed.
        """
        self._check(self._writable, "writing")
        with memoryview(data) as given, given.cast("B") as view:
            size = len(view)
            if not size:
                return 0
            self._writing.send(None)
            try:
                written = self._write_some(view)
                while self._buffered and written < size:
                    self._pollable.filled()
                    with view[written:] as rest:
                        written += self._write_some(rest)
            finally:
                self._writing.try_recv()
        return written

    def write_some(self, data: Any, /) -> int:
        """Write what the kernel takes at once, but at least a byte; how many. Parks.

        A cancelled one has written nothing. Errors as ``write``.
        """
        self._check(self._writable, "writing")
        self._writing.send(None)
        try:
            return self._write_some(data)
        finally:
            self._writing.try_recv()

    def writelines(self, lines: Iterable[Any], /) -> None:
        """Write each of ``lines``, in one piece."""
        self.write(b"".join(lines))

    def flush(self) -> None:
        """Nothing to do: ``write`` has written all. Doesn't park."""
        self._check(True, "flushing")

    def _write_some(self, view: Any) -> int:
        pollable = self._pollable
        if pollable.writable:
            self._charge()
            try:
                return os.write(self._open_fd(), view)
            except BlockingIOError:
                pass
        while True:
            pollable.filled()
            self._wait(WRITE)
            try:
                written = os.write(self._open_fd(), view)
            except BlockingIOError:
                continue
            except BaseException:
                pollable.more_to_write()
                raise
            pollable.more_to_write()
            return written

    # -- waiting ---------------------------------------------------------------------------------

    def _wait(self, direction: int) -> None:
        try:
            if direction == READ:
                self._pollable.wait_read()
            else:
                self._pollable.wait(direction)
        except OSError:
            self._open_fd()
            raise

    def _charge(self) -> None:
        """Count an attempt that didn't have to wait (law 7 of the hub), before it."""
        pollable = self._pollable
        hub = pollable.hub
        hub.quota = quota = hub.quota - 1
        if quota < 0:
            pollable.charge()

    # -- the file --------------------------------------------------------------------------------

    def close(self) -> None:
        """Close; tasks that wait on it get ValueError. Doesn't park, harmless when closed."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._pollable.close()
            self._nonblocking.release(self._closefd)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._fd < 0

    def fileno(self) -> int:
        """The fd; it is non-blocking. Raises ValueError when closed."""
        return self._open_fd()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._open_fd())

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        self._open_fd()
        return self._readable

    def writable(self) -> bool:
        """Whether it was opened for writing."""
        self._open_fd()
        return self._writable

    def seekable(self) -> bool:
        """False."""
        self._open_fd()
        return False

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Raises io.UnsupportedOperation: a stream has no positions."""
        raise io.UnsupportedOperation(f"fd {self._open_fd()} is not seekable")

    def tell(self) -> int:
        """As ``seek``."""
        return self.seek(0, 1)

    def truncate(self, size: int | None = None, /) -> int:
        """As ``seek``."""
        return self.seek(0)

    def _open_fd(self) -> int:
        if self._fd < 0:
            raise ValueError("I/O operation on closed file")
        return self._fd

    def _check(self, able: bool, what: str) -> None:
        if self._fd < 0:
            raise ValueError("I/O operation on closed file")
        if not able:
            raise io.UnsupportedOperation(f"fd {self._fd} was not opened for {what}")

    def __enter__(self) -> Self:
        self._open_fd()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"fd={self._fd}"
        return f"<{type(self).__name__} {state} mode={self.mode!r}>"

    def __del__(self) -> None:
        # Nobody waits: who waits refers to this object.
        if getattr(self, "_fd", -1) >= 0:
            if self._closefd:  # as io.FileIO: who keeps the fd has nothing to close
                warnings.warn(f"unclosed file {self!r}", ResourceWarning, source=self, stacklevel=2)
            self.close()


io.BufferedIOBase.register(Stream)


def _copy_into(buffer: Any, read: Any) -> int:
    with memoryview(buffer) as given, given.cast("B") as view:
        data = read(len(view))
        view[: len(data)] = data
    return len(data)


def lines_of(readline: Any, hint: int | None) -> list[Any]:
    """The lines that ``readline`` gives, until they are longer than ``hint`` together."""
    lines: list[Any] = []
    size = 0
    while line := readline():
        lines.append(line)
        size += len(line)
        if hint is not None and 0 < hint < size:
            break
    return lines
