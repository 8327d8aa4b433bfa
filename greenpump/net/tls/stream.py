"""Stream: receiving and sending over TLS as the stdlib's ``ssl.SSLSocket`` has it.

The hot cases are written out: a recv that waits for a short message, a sendall of one record. All
else goes by ``records.py``.
"""

from __future__ import annotations

import _socket
import ssl
from operator import index
from typing import Any

from ...errors import DelimiterNotFound, IncompleteRead
from ...hub.pollable import READ, WRITE
from ...hub.timers import FAR
from ..socket import SMALL, Socket
from ..streams import LOOK
from .engine import FETCH, RECORD
from .records import Records

_send = _socket.socket.send


class Stream(Records):
    """The byte stream of an SSLSocket; a plain one's before and after TLS."""

    __slots__ = ()

    # -- receiving -------------------------------------------------------------------------------

    def recv(self, bufsize: int = 1024, flags: int = 0) -> bytes:
        """Receive up to ``bufsize`` bytes, b"" at the stream's end; parks until there are some.

        An end without the peer's farewell is an end, too, unless ``suppress_ragged_eofs`` is off:
        ssl.SSLEOFError then. Raises TimeoutError, ssl.SSLError, OSError, ValueError for flags.
        """
        if (
            self._ahead
            or self._limits is not None
            or flags
            or type(bufsize) is not int
            or bufsize < 1
        ):
            return self._recv_slowly(bufsize, flags)
        receiving = self._receiving
        try:
            receiving.free.pop()  # try_take, written out
        except IndexError:
            return self._recv_slowly(bufsize, flags)
        try:
            came = Socket.recv(self, FETCH)
            size = len(came)
            if size > SMALL or not size:
                data: bytes | None = self._open_records(min(size or 1, bufsize), None, came)
            else:
                # ``_open_records``, written out for a short message.
                data = None
                lock = self._lock
                if size > bufsize:
                    size = bufsize
                try:
                    lock.acquire()
                    sslobj = self._sslobj
                    if sslobj is None:
                        sslobj = self._engine()
                    incoming = self._incoming
                    incoming.write(came)
                    data = sslobj.read(size)
                    # As much as asked for: a part of the record had come before.
                    if incoming.pending or len(data) == size or not data:
                        self._ahead = True
                        if not data:
                            self._end = True
                except ssl.SSLError as error:
                    self._stopped(error)
                finally:
                    lock.release()
                if self._outgoing.pending:
                    self._answer()
        finally:
            if receiving.line:
                receiving.give()
            else:
                receiving.free.append(None)
                if receiving.line and receiving.try_take():
                    receiving.give()
        return self._recv_slowly(bufsize, flags) if data is None else data

    def _recv_slowly(self, bufsize: int, flags: int) -> bytes:
        """recv where something is at hand, with a time limit, or where another task receives."""
        if self._sslobj is None:
            return self._deliver(bufsize, None) if self._rest else Socket.recv(self, bufsize, flags)
        if flags:
            raise self._no_flags("recv")
        until = self._until(READ, "recv")
        bufsize = index(bufsize)
        if bufsize < 1:
            if bufsize:
                raise ValueError("size should not be negative")
            return b""
        data: bytes = self._decrypt(bufsize, None, until, "recv")
        return data

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """Receive into a writable buffer, at most ``nbytes`` (None or 0: its size); parks."""
        with memoryview(buffer) as view:
            room = view.nbytes
            if view.readonly:
                raise TypeError("recv_into needs a writable buffer")
        size = nbytes if nbytes and 0 < nbytes < room else room
        if self._sslobj is None:
            if self._rest:
                return int(self._deliver(size, buffer))
            return Socket.recv_into(self, buffer, nbytes or 0, flags)
        if flags:
            raise self._no_flags("recv_into")
        until = self._until(READ, "recv_into")
        if not size:
            return 0
        got: int = self._decrypt(size, buffer, until, "recv_into")
        return got

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        """``recv``, or ``recv_into`` if there is a buffer; ValueError without TLS. Parks."""
        if self._sslobj is None:
            raise ValueError("Read on closed or unwrapped SSL socket.")
        return self.recv(len) if buffer is None else self.recv_into(buffer, len)

    def pending(self) -> int:
        """How many bytes a receive would give at once. Doesn't park."""
        if self._sslobj is None:
            return len(self._rest)
        if not self._receiving.try_take():
            return 0  # a task receives, and gets them
        try:
            if self._done:
                self._look(ask_kernel=False)
            with self._lock:
                return len(self._rest) + int(self._sslobj.pending())
        finally:
            self._receiving.give()

    def _at_hand(self) -> bool:
        """Whether a receive would end at once without the kernel's help, for ``select``."""
        if self._sslobj is None:
            return bool(self._rest)
        if not self._receiving.try_take():
            return False  # a task receives, and gets it
        try:
            return self._done and self._look(ask_kernel=False)
        finally:
            self._receiving.give()

    def _receive(self, size: int, until: int) -> bytes:
        if self._sslobj is None:
            return self._deliver(size, None) if self._rest else Socket._receive(self, size, until)
        data: bytes = self._decrypt(size, None, until, "recv")
        return data

    def recv_until(self, delimiter: bytes, limit: int = 65536) -> bytes:
        """As ``Socket.recv_until``: up to and with ``delimiter``, nothing after it; parks."""
        if self._sslobj is None and not self._rest:
            return super().recv_until(delimiter, limit)
        delimiter = bytes(memoryview(delimiter))
        limit = index(limit)
        if not delimiter:
            raise ValueError("the delimiter must not be empty")
        if limit < len(delimiter):
            raise ValueError(f"a limit of {limit} bytes has no room for the delimiter")
        until = self._until(READ, "recv_until")
        found = bytearray()
        while len(found) < limit:
            piece = self._receive(min(limit - len(found), LOOK), until)
            if not piece:
                raise IncompleteRead(
                    f"the peer ended the stream on fd {self.fileno()} after {len(found)} bytes "
                    f"without {delimiter!r}",
                    bytes(found),
                )
            begin = max(0, len(found) + 1 - len(delimiter))
            found += piece
            at = found.find(delimiter, begin)
            if at >= 0:
                self._rest = bytes(found[at + len(delimiter) :]) + self._rest
                self._ahead = True
                return bytes(found[: at + len(delimiter)])
        raise DelimiterNotFound(
            f"no {delimiter!r} within {limit} bytes on fd {self.fileno()}", bytes(found)
        )

    # -- sending ---------------------------------------------------------------------------------

    def send(self, data: Any, flags: int = 0) -> int:
        """Send ``data`` or its beginning (a record); returns how many bytes; parks."""
        if self._sslobj is None:
            return Socket.send(self, data, flags)
        if flags:
            raise self._no_flags("send")
        until = FAR if self._limits is None else self._until(WRITE, "send")
        return self._encrypt(data, until, "send", everything=False)

    def try_send(self, data: Any) -> int:
        """Send what fits at this moment, and return how many bytes that was; 0 when nothing fits.

        As ``Socket.try_send``: neither parks nor yields, and time limits don't apply. Of the last
        record of 16 KiB that it counts a part may be still to come; that goes out by itself, before
        all else, as long as the connection is open. 0 also before the end of the handshake, and
        while another task sends. Raises OSError, ssl.SSLError as ``send``.
        """
        if self._sslobj is None:
            return Socket.try_send(self, data)
        with memoryview(data) as view, view.cast("B") as whole:
            return self._encrypt_now(whole)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of ``data``; parks as often as it takes. A timeout limits the whole call."""
        pollable = self._pollable
        if (
            not self._open
            or self._limits is not None
            or not pollable.writable
            or flags
            or type(data) is not bytes
            or not 0 < len(data) <= RECORD
        ):
            self._sendall_slowly(data, flags)
            return
        hub = pollable.hub
        hub.quota = quota = hub.quota - 1
        if quota < 0:
            pollable.charge()
            self._sendall_slowly(data, flags)  # what was looked at may have changed meanwhile
            return
        sending = self._sending
        try:
            sending.free.pop()  # try_take, written out
        except IndexError:
            self._sendall_slowly(data, flags)
            return
        try:
            if self._unsent:
                self._ship(b"", FAR, 0)
            lock = self._lock
            try:
                lock.acquire()
                sslobj = self._sslobj
                if sslobj is None:
                    sslobj = self._engine()
                sslobj.write(data)
                records = self._outgoing.read()
            except ssl.SSLError:
                records = b""
            finally:
                lock.release()
            if not records:
                records = self._seal(data, FAR, "sendall")  # it says the same, or knows what to do
            try:
                sent = _send(self, records)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._unsent = records
                raise
            if sent != len(records):
                self._unsent = records[sent:]
                pollable.filled()
                self._ship(b"", FAR, 0)
        finally:
            if sending.line:
                sending.give()
            else:
                sending.free.append(None)
                if sending.line and sending.try_take():
                    sending.give()
            if self._outgoing.pending:
                self._answer()

    def _sendall_slowly(self, data: Any, flags: int) -> None:
        """sendall of what is no single record, with a time limit, or where another task sends."""
        if self._sslobj is None:
            Socket.sendall(self, data, flags)
            return
        if flags:
            raise self._no_flags("sendall")
        until = FAR if self._limits is None else self._until(WRITE, "sendall")
        self._encrypt(data, until, "sendall", everything=True)

    def write(self, data: Any) -> int:
        """``send``; ValueError without TLS. Parks."""
        if self._sslobj is None:
            raise ValueError("Write on closed or unwrapped SSL socket.")
        return self.send(data)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send a file, by reading it here: the kernel can't encrypt. Returns the bytes sent; parks.

        Reading blocks the thread as long as the disk takes.
        """
        if self._sslobj is None:
            return Socket.sendfile(self, file, offset, count)
        sent: int = self._sendfile_use_send(file, offset, count)  # type: ignore[attr-defined]
        return sent

    def _no_flags(self, name: str) -> ValueError:
        return ValueError(f"non-zero flags not allowed in calls to {name}() on {type(self)}")
