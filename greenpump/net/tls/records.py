"""Records: the program's bytes on their way through the engine.

The invariants that its names stand for are ``engine.py``'s.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import ssl
from typing import Any, Final

from ...hub.pollable import READ, WRITE
from ..socket import Socket
from .engine import BATCH, FETCH, RECORD, Engine

PAUSE: Final = 2_000_000
"""ns between two looks where nobody tells that it is worth it."""

_recv = _socket.socket.recv


class Records(Engine):
    """Plaintext in and out, for ``stream.py``'s calls."""

    __slots__ = ()

    # -- receiving -------------------------------------------------------------------------------

    def _decrypt(self, size: int, buffer: Any, until: int, name: str) -> Any:
        """Up to ``size`` bytes of plaintext, into ``buffer`` if there is one; parks."""
        if not self._done:
            self._shake(until, name)
        receiving = self._receiving
        try:
            receiving.free.pop()  # try_take, written out
        except IndexError:
            self._take_turn(receiving, READ, until, name)
        try:
            if self._rest:
                return self._deliver(size, buffer)
            if self._ahead:
                # _charge, written out
                hub = self._pollable.hub
                hub.quota = quota = hub.quota - 1
                if quota < 0:
                    self._pollable.charge()
                data = self._open_records(size, buffer, None)
                if data is not None:
                    return data
            limits = self._limits
            waits = limits is None or limits.timeout != 0
            # The plain call has the shorter ways, and starts its time limit now, as we did.
            came = Socket.recv(self, FETCH) if waits else self._look_at(until)
            while True:
                # There is hardly more plaintext than that, and a greater bytes object that is cut
                # down afterwards costs a trip through malloc.
                data = self._open_records(min(size, len(came) or 1), buffer, came)
                if data is not None:
                    return data
                came = self._fetch(until) if waits else self._look_at(until)
        finally:
            if self._looked:
                self._settle()
            receiving.give()

    def _open_records(
        self, size: int, buffer: Any, came: bytes | None, *, patient: bool = True
    ) -> Any:
        """What OpenSSL can give, with what came; None when it wants more. At the end b"" or 0.

        ``patient`` is ``_answer``'s.
        """
        if self._end is not None:
            return self._ended(buffer)
        data: Any = None
        lock = self._lock
        try:
            lock.acquire()
            sslobj = self._sslobj
            if sslobj is None:
                sslobj = self._engine()
            incoming = self._incoming
            if came:
                incoming.write(came)
            elif came is not None:
                incoming.write_eof()
            if buffer is None:
                data = sslobj.read(size if size < RECORD else RECORD)
                got = len(data)
                while got < size and got and incoming.pending and not self._looked:
                    self._ahead = True
                    piece = sslobj.read(min(size - got, RECORD))
                    data += piece
                    got = len(data) if piece else 0
            else:
                data = got = sslobj.read(size, buffer)
            self._ahead = incoming.pending > 0 or sslobj.pending() > 0
            if not got:
                self._ahead = self._end = True
        except ssl.SSLError as error:
            self._stopped(error)
        finally:
            lock.release()
        if self._outgoing.pending:
            self._answer(patient=patient)
        return self._ended(buffer) if data is None and self._end is not None else data

    def _stopped(self, error: ssl.SSLError) -> None:
        """OpenSSL gave nothing: note why."""
        if isinstance(error, ssl.SSLWantReadError):
            self._ahead = False
        else:
            self._ahead = True
            self._end = True if isinstance(error, ssl.SSLZeroReturnError) else error

    def _ended(self, buffer: Any) -> Any:
        """What a receive says after the end."""
        end = self._end
        if isinstance(end, BaseException) and not (
            end.args[0] == ssl.SSL_ERROR_EOF and self.suppress_ragged_eofs
        ):
            raise self._naming(end, "TLS").with_traceback(None)
        return b"" if buffer is None else 0

    def _deliver(self, size: int, buffer: Any) -> Any:
        """From ``_rest``."""
        piece, self._rest = self._rest[:size], self._rest[size:]
        if buffer is None:
            return piece
        with memoryview(buffer) as view, view.cast("B") as plain:
            plain[: len(piece)] = piece
        return len(piece)

    def _look(self, *, ask_kernel: bool) -> bool:
        """Whether a receive would not have to wait. Doesn't park; what it decrypts is kept.

        By the task whose turn it is, after the handshake.
        """
        if self._rest or self._end is not None:
            return True
        came: bytes | None = None
        while True:
            if self._ahead or came is not None:
                try:
                    data = self._open_records(RECORD, None, came, patient=False)
                except ssl.SSLError:
                    return True  # who receives is told again
                if data is not None:
                    self._rest = data
                    self._ahead = True
                    return True
            if not ask_kernel:
                return False
            try:
                came = _recv(self, FETCH)
            except BlockingIOError:
                self._pollable.drained()
                return False
            except OSError:
                return True

    # -- sending ---------------------------------------------------------------------------------

    def _encrypt(self, data: Any, until: int, name: str, *, everything: bool) -> int:
        """Send ``data``, or what fits into its first record; how many bytes of it. Parks."""
        if self._shut:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        if not self._done:
            self._shake(until, name)
        sending = self._sending
        if not sending.try_take():
            self._take_turn(sending, WRITE, until, name)
        try:
            with memoryview(data) as view, view.cast("B") as whole:
                return self._encrypt_view(whole, until, name, everything)
        finally:
            sending.give()
            if self._outgoing.pending:
                self._answer()  # of a reader's, who left it to us

    def _encrypt_view(self, whole: memoryview, until: int, name: str, everything: bool) -> int:
        if self._unsent:
            self._ship(b"", until, self._owed)
        done, self._owed = min(self._owed, len(whole)), 0
        self._open = True
        if done and not everything:
            return done
        while done < len(whole):
            pieces: list[bytes] = []
            while done < len(whole) and len(pieces) < (BATCH if everything else 1):
                with whole[done : done + RECORD] as piece:
                    pieces.append(self._seal(piece, until, name))
                    done += len(piece)
            self._ship(b"".join(pieces) if len(pieces) > 1 else pieces[0], until, done)
            if not everything:
                break
        return done

    def _seal(self, data: Any, until: int, name: str) -> bytes:
        """The record of ``data``, which is no longer than one holds, after all else to be said."""
        while not self._write_record(data):
            self._ship(self._said(), until, 0)
            if self._receiving.try_take():
                try:
                    self._feed(self._fetch(until))
                    self._ahead = True
                finally:
                    self._receiving.give()
            else:
                self._pause(WRITE, until, PAUSE, name)  # the reader sees to it
        return self._said()

    def _write_record(self, data: Any) -> bool:
        """Have OpenSSL make a record of ``data``; False if another handshake comes first."""
        with self._lock:
            try:
                self._engine().write(data)
            except ssl.SSLWantReadError:
                return False  # the peer has begun it: TLS 1.2
            except ssl.SSLError as error:
                raise self._naming(error, "TLS") from None
            return True

    def _encrypt_now(self, whole: memoryview) -> int:
        """Send what fits of ``whole``; how many bytes. Doesn't park (invariant 7)."""
        if self._shut:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        if not self._done or not self._sending.try_take():
            return 0
        done = 0
        try:
            if self._unsent:
                self._push()
            if not self._unsent:
                done, self._owed = min(self._owed, len(whole)), 0
                self._open = True
            while done < len(whole) and not self._unsent and self._has_room():
                with whole[done : done + RECORD] as piece:
                    if not self._write_record(piece):
                        break
                    done += len(piece)
                self._push()
        except BaseException:
            self._sending.give()
            raise
        self._pushed()
        if self._outgoing.pending:
            self._answer(patient=False)
        return done

    def _has_room(self) -> bool:
        """Whether the kernel takes anything; asked where no edge may have told of new room."""
        if self._pollable.writable:
            return True
        poller = select.poll()
        poller.register(self.fileno(), select.POLLOUT)
        return bool(poller.poll(0))
