"""TextStream: a Stream as a text file.

Invariants
----------
1. What was decoded and not yet returned is ``_text`` from ``_at`` on. As in ``Stream`` a read takes
   from it only when it can be answered, so a cancelled one has consumed nothing.
2. Bytes are taken from the Stream's buffer and decoded in one step under ``_lock``.

Rejected: ``io.TextIOWrapper`` over a Stream, for the reasons given there.
"""

from __future__ import annotations

import codecs
import io
import locale
from collections.abc import Iterable
from operator import index
from threading import Lock
from types import TracebackType
from typing import Any, Final, Self

from .stream import Stream, lines_of

_NEWLINES: Final = (None, "", "\n", "\r", "\r\n")


class TextStream:
    """A text file over a Stream, with the interface of ``io.TextIOWrapper`` but for seeking.

    ``encoding``, ``errors`` and ``newline`` are those of ``open``; ``buffer`` is the Stream. What
    holds for the Stream's calls, cancelled ones included, holds for these. Raises LookupError for
    an unknown encoding, ValueError for a bad newline. Source: io.TextIOWrapper.
    """

    def __init__(
        self,
        buffer: Stream,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> None:
        check_text(None if encoding == "locale" else encoding, errors, newline)
        if encoding is None or encoding == "locale":
            encoding = locale.getencoding()
        self.encoding = encoding
        self.errors = errors or "strict"
        self.buffer = buffer
        self.mode = buffer.mode.replace("b", "")
        self._newline = newline
        self._encoder = codecs.getincrementalencoder(encoding)(self.errors)
        decoder: Any = codecs.getincrementaldecoder(encoding)(self.errors)
        if not newline:
            decoder = io.IncrementalNewlineDecoder(decoder, translate=newline is None)
        self._decoder = decoder
        self._lock = Lock()
        self._text = ""
        self._at = 0
        self._takes = 0

    # -- reading ---------------------------------------------------------------------------------

    def read(self, size: int | None = -1, /) -> str:
        """Read ``size`` characters, fewer only at the end; all there are to come if negative.

        Parks until they are there. Raises UnicodeDecodeError, OSError as read(2), ValueError when
        closed.
        """
        size = -1 if size is None else index(size)
        if size < 0:
            self.buffer.read_ahead()
            with self._lock:
                self._decode(final=True)
                return self._cut(len(self._text))
        self._check_readable()
        # A character takes a byte at least.
        while (missing := size - len(self._text) + self._at) > 0 and self._fill(missing):
            pass
        with self._lock:
            return self._cut(self._at + size)

    def readline(self, size: int | None = -1, /) -> str:
        """Read a line with its end, at most ``size`` characters of it; "" at the end. Parks."""
        limit = -1 if size is None else index(size)
        self._check_readable()
        scanned, takes = 0, self._takes
        more = True
        while True:
            with self._lock:
                if takes != self._takes:
                    scanned, takes = 0, self._takes
                end = self._line_end(self._at + scanned)
                if end < 0 and not more:
                    end = len(self._text)
                most = self._at + limit if limit >= 0 else len(self._text)
                if end >= 0 or most < len(self._text):
                    return self._cut(min(most, end if end >= 0 else most))
                if limit == len(self._text) - self._at:
                    return self._cut(most)
                scanned = max(0, len(self._text) - self._at - 1)
            more = self._fill()

    def readlines(self, hint: int | None = -1, /) -> list[str]:
        """The lines to the end, or until they have more than ``hint`` characters. Parks."""
        return lines_of(self.readline, hint)

    @property
    def newlines(self) -> str | tuple[str, ...] | None:
        """The line ends met so far, where they are translated."""
        found: str | tuple[str, ...] | None = getattr(self._decoder, "newlines", None)
        return found

    def __iter__(self) -> Self:
        self.buffer.fileno()
        return self

    def __next__(self) -> str:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def _fill(self, size: int = 1) -> bool:
        """Park until more is decoded, or decoded by another task; False at the end."""
        more = self.buffer.gather(size)
        with self._lock:
            self._decode(final=not more)
        return more

    def _decode(self, final: bool) -> None:
        """Decode what lies in the Stream's buffer. The lock is held."""
        text = self._decoder.decode(self.buffer.take(-1), final)
        if text:
            self._text = self._text[self._at :] + text
            self._at = 0

    def _line_end(self, start: int) -> int:
        """Where the line that is whole from ``start`` on ends; -1 if none is."""
        text, newline = self._text, self._newline
        if newline != "":
            end = text.find(newline or "\n", start)
            return end if end < 0 else end + len(newline or "\n")
        lf = text.find("\n", start)
        cr = text.find("\r", start, lf if lf >= 0 else len(text))
        if cr < 0:
            return lf + 1 if lf >= 0 else -1
        return cr + 2 if cr + 1 == lf else cr + 1  # the decoder keeps "\r\n" in one piece

    def _cut(self, end: int) -> str:
        """Take the text up to ``end``. The lock is held."""
        text = self._text[self._at : end]
        self._at += len(text)
        self._takes += 1
        if self._at == len(self._text):
            self._text = ""
            self._at = 0
        return text

    def _check_readable(self) -> None:
        if not self.buffer.readable():
            raise io.UnsupportedOperation(f"fd {self.buffer.fileno()} was not opened for reading")

    # -- writing ---------------------------------------------------------------------------------

    def write(self, text: str, /) -> int:
        """Write ``text``; parks until the kernel has taken it. Returns its length.

        Raises UnicodeEncodeError, and what ``Stream.write`` raises.
        """
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if not self.buffer.writable():
            raise io.UnsupportedOperation(f"fd {self.buffer.fileno()} was not opened for writing")
        length = len(text)
        if self._newline in ("\r", "\r\n"):
            text = text.replace("\n", self._newline)
        with self._lock:
            data = self._encoder.encode(text)
        view = memoryview(data)
        while view:
            view = view[self.buffer.write(view) :]
        return length

    def writelines(self, lines: Iterable[str], /) -> None:
        """Write each of ``lines``, in one piece."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Nothing to do: ``write`` has written all. Doesn't park."""
        self.buffer.flush()

    # -- the file --------------------------------------------------------------------------------

    def close(self) -> None:
        """Close; tasks that wait on it get ValueError. Doesn't park, harmless when closed."""
        self.buffer.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self.buffer.closed

    @property
    def name(self) -> Any:
        """What it was opened as."""
        return self.buffer.name

    line_buffering = False
    write_through = True

    def fileno(self) -> int:
        """The fd; it is non-blocking. Raises ValueError when closed."""
        return self.buffer.fileno()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.buffer.isatty()

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        return self.buffer.readable()

    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self.buffer.writable()

    def seekable(self) -> bool:
        """False."""
        return self.buffer.seekable()

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Raises io.UnsupportedOperation: a stream has no positions."""
        return self.buffer.seek(offset, whence)

    def tell(self) -> int:
        """As ``seek``."""
        return self.buffer.tell()

    def truncate(self, size: int | None = None, /) -> int:
        """As ``seek``."""
        return self.buffer.truncate(size)

    def __enter__(self) -> Self:
        self.buffer.fileno()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"fd={self.fileno()}"
        return f"<TextStream {state} mode={self.mode!r} encoding={self.encoding!r}>"


io.TextIOBase.register(TextStream)


def check_text(encoding: str | None, errors: str | None, newline: str | None) -> None:
    """Raise for what a TextStream doesn't take: ValueError, LookupError."""
    if newline not in _NEWLINES:
        raise ValueError(f"illegal newline value: {newline!r}")
    codecs.lookup(encoding or "ascii")
    codecs.lookup_error(errors or "strict")
