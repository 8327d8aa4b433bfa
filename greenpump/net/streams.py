"""What reading and ending a stream takes beyond recv and close.

No read-ahead buffer
--------------------
``recv_until`` looks at what has come (MSG_PEEK) and consumes up to the delimiter and not a byte
beyond, so it mixes with every other call, with fd passing, ``detach``, and handing the connection
to another process. The price is one more syscall for each piece: measured 3.3 µs for a line that is
there, against 1.7 µs for a ``recv`` of it and 0.1 µs for ``readline`` of ``makefile("rb")``, which
reads ahead and is the choice for a protocol made of lines alone.

What a TimeoutError or Cancelled in the middle has already consumed is lost: the stream's position
is unknown, so close the connection.

Rejected: a read-ahead buffer within the Socket (``recv_into``, ``recvmsg`` and ``makefile`` would
each have to know it; eight more bytes in every idle connection).
"""

from __future__ import annotations

import _socket
import io
import os
import socket as _stdlib
import struct
from operator import index

from ..errors import DelimiterNotFound, IncompleteRead
from ..hub.local import this_hub
from ..hub.pollable import READ, YES
from ..hub.timers import FAR
from .base import BaseSocket

_C = _socket.socket
_recv = _C.recv
_LINGER = struct.Struct("ii")

PIECE = 64 * 1024
"""Bytes one recv of a longer read asks for: a claimed length must not make us allocate it all."""
LOOK = 2048
"""Bytes recv_until looks at in one go."""
SENDFILE_MAX = 1 << 30
WASTE = 64 * 1024


class Streams(BaseSocket):
    """recv_exactly, recv_until, sendfile, lingering close and abort."""

    __slots__ = ()

    def recv_exactly(self, size: int) -> bytes:
        """Receive ``size`` bytes, no more and no less; parks until they are there.

        A timeout limits the whole call. Raises IncompleteRead (an EOFError) when the peer ends the
        stream before, with the bytes that came in ``partial``; ValueError for a negative size; else
        as ``recv``. Memory is taken as bytes come, not as ``size`` claims. Source: Go's ReadFull.
        """
        size = index(size)
        if size < 0:
            raise ValueError(f"the number of bytes to receive must not be negative: {size}")
        until = self._until(READ, "recv_exactly")
        pieces: list[bytes] = []
        missing = size
        while missing:
            piece = self._receive(min(missing, PIECE), until)
            if not piece:
                partial = b"".join(pieces)
                raise IncompleteRead(
                    f"the peer ended the stream on fd {self.fileno()} after {len(partial)} of "
                    f"{size} bytes",
                    partial,
                )
            if len(piece) == size:
                return piece
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def recv_until(self, delimiter: bytes, limit: int = 65536) -> bytes:
        """Receive up to and with ``delimiter``, nothing after it; parks until it is there.

        ``limit`` is the greatest number of bytes the result may have, the delimiter counted. A
        timeout limits the whole call. Raises DelimiterNotFound (a ValueError) at the limit,
        IncompleteRead (an EOFError) when the peer ends the stream first, both with what they
        consumed in ``partial``; ValueError for an empty delimiter; else as ``recv``. Only one task
        may receive meanwhile. Source: readuntil of asyncio's StreamReader.
        """
        delimiter = bytes(memoryview(delimiter))
        limit = index(limit)
        if not delimiter:
            raise ValueError("the delimiter must not be empty")
        if limit < len(delimiter):
            raise ValueError(f"a limit of {limit} bytes has no room for the delimiter")
        until = self._until(READ, "recv_until")
        found = bytearray()
        while len(found) < limit:
            size = min(limit - len(found), LOOK)
            seen = self._read(_recv, until, size, _stdlib.MSG_PEEK)
            if not seen:
                raise IncompleteRead(
                    f"the peer ended the stream on fd {self.fileno()} after {len(found)} bytes "
                    f"without {delimiter!r}",
                    bytes(found),
                )
            overlap = found[1 - len(delimiter) :] if len(delimiter) > 1 else b""
            at = (overlap + seen).find(delimiter)
            take = len(seen) if at < 0 else at + len(delimiter) - len(overlap)
            piece = self._take(take, until)
            if at >= 0:
                if take < len(seen):
                    self._pollable.readable = YES
                return bytes(found + piece) if found else piece
            found += piece
        raise DelimiterNotFound(
            f"no {delimiter!r} within {limit} bytes on fd {self.fileno()}", bytes(found)
        )

    def _receive(self, size: int, until: int) -> bytes:
        """One step of a longer read."""
        if self._limits is None and until == FAR:
            return self.recv(size)
        return self._read(_recv, until, size)

    def _take(self, size: int, until: int) -> bytes:
        """Consume what was looked at: it is there."""
        piece = _recv(self, size)
        while len(piece) < size:  # a unix stream's read ends at a message with fds
            more = self._receive(size - len(piece), until)
            if not more:
                break
            piece += more
        return piece

    def sendfile(
        self, file: _stdlib._SendableFile, offset: int = 0, count: int | None = None
    ) -> int:
        """Send a file from ``offset``, ``count`` bytes or up to its end, without copying it here.

        Parks where the connection doesn't take more; a file that isn't in the page cache blocks the
        thread as long as the disk takes. A timeout limits each wait. Falls back to read and send
        for what is no regular file. Returns the number of bytes sent; the file stands behind them
        afterwards. Raises ValueError for text mode, non-blocking mode, a socket that is no stream.
        Source: socket.socket.sendfile, man 2 sendfile.
        """
        self._check_sendfile_params(file, offset, count)  # type: ignore[attr-defined]
        self._alive()
        try:
            source = file.fileno()  # type: ignore[attr-defined]
            size = os.fstat(source).st_size
        except (AttributeError, io.UnsupportedOperation, OSError):
            return self._sendfile_use_send(file, offset, count)  # type: ignore[attr-defined, no-any-return]
        if not size:
            return 0
        if self.gettimeout() == 0:
            raise ValueError("non-blocking sockets are not supported")
        total = 0

        def sendfile(sock: BaseSocket) -> int:
            block = min(SENDFILE_MAX, size if count is None else count - total)
            return os.sendfile(sock.fileno(), source, offset + total, block)

        try:
            while count is None or total < count:
                try:
                    sent = self._write(sendfile, None)
                except TimeoutError:
                    raise
                except OSError:
                    if total:
                        raise
                    # Nothing that could be mapped: /proc, a pipe. Or the socket is at fault, which
                    # send will say as well.
                    return self._sendfile_use_send(file, offset, count)  # type: ignore[attr-defined, no-any-return]
                if not sent:
                    break
                total += sent
            return total
        finally:
            if total and hasattr(file, "seek"):
                file.seek(offset + total)

    def close(self, linger: float | None = None) -> None:
        """Close; tasks that wait on this socket get OSError (EBADF). Harmless when closed.

        By default it doesn't park, and the kernel goes on sending what was sent. But a connection
        that is closed while bytes of the peer lie unread is reset, and the peer may lose what it
        has not read yet. With ``linger``, in seconds, it first ends its own side, then parks and
        drops what still comes until the peer has ended too, for ``linger`` seconds at most; 0 is
        ``abort``. Files of ``makefile`` keep the fd open until they are closed. (SO_LINGER with a
        time, set by hand, blocks the thread: the kernel heeds it on a non-blocking fd too.)

        Source: socket.socket.close; RFC 9112 §9.6 for the lingering.
        """
        if linger is not None and self.fileno() >= 0:
            if linger == 0:
                self.abort()
                return
            try:
                self._linger(linger)
            finally:
                super().close()
            return
        super().close()

    def abort(self) -> None:
        """Close at once and drop what was not yet sent: the peer's next call meets ECONNRESET.

        TCP sends a RST (SO_LINGER 0, man 7 socket); on other sockets it is a plain close. Files of
        ``makefile`` don't keep it open. Doesn't park, harmless when closed. Source: SetLinger(0) of
        Go's TCPConn.
        """
        self._closed = True
        if self.fileno() >= 0:
            self.setsockopt(_stdlib.SOL_SOCKET, _stdlib.SO_LINGER, _LINGER.pack(1, 0))
        self._real_close()

    def _linger(self, seconds: float) -> None:
        until = this_hub().timers.after(seconds)
        self._limits = None  # the linger is the limit now
        try:
            self.shutdown(_stdlib.SHUT_WR)
            while self._read(_recv, until, WASTE):
                pass
        except OSError:
            pass  # it was never connected, the peer was faster, or the time is over
