"""Engine: a Socket with OpenSSL in it, and what OpenSSL has to say by itself.

OpenSSL works on two memory buffers, ``_incoming`` and ``_outgoing``, and never sees the fd: it is
asked, answers at once, and whoever asked moves the records between the buffers and the kernel, with
the plain Socket's own calls. So readiness, deadlines, cancels, other hubs and fair queues are the
Socket's, and this file and ``records.py`` are about order alone.

Why not OpenSSL on the fd (``ssl.SSLSocket``'s way, and gevent's)
-----------------------------------------------------------------
On the fd a writer that waits for room leaves half a record inside OpenSSL, and what the reader must
answer meanwhile (two key updates of the peer's are enough) ends the connection with BAD_LENGTH.
Into a buffer every record is written whole. And a record costs one recv here, or a share of one,
not two (header, body). The price is that its bytes are copied four times more and zeroed twice.
Measured beside a prototype on the fd, the cheapest there could be, without turns and answers (3.11,
OpenSSL 3.0, 50 connections, three times five or seven interleaved rounds on a busy machine,
messages a second in gevent's): 64 bytes 1.17-1.37, the fd 1.24-1.30; 100 KiB 0.99-1.10, the fd
1.05-1.20. So the fd would win something where messages are long, and lose connections. (ssl has no
way to read by the one and write by the other.)

Invariants
----------
1. OpenSSL's object and its two buffers are touched only under ``_lock``, by calls that don't
   wait; nobody parks while holding it. The first handshake is done without it, since the program's
   ``sni_callback`` may park in there: before ``_done`` all others wait for the ``_receiving`` turn,
   which whoever does the handshake has. (A signal handler or finaliser must not use a TLS
   connection: it may have struck inside the lock. Let it spawn a task for that.)
2. What comes from the kernel goes into ``_incoming`` by the task whose turn ``_receiving`` is; what
   leaves ``_outgoing`` goes to the kernel by the task whose turn ``_sending`` is. Who parks for one
   direction never keeps the other's turn, but for the handshake.
3. ``_unsent`` is what left ``_outgoing`` and the kernel has not taken yet: it goes first. It may be
   half a record, when a deadline or a cancel ended the sending; the stream is in order all the
   same. ``_owed`` is how much of the program's data it was when non-blocking mode said "try again":
   as OpenSSL wants it, the next send is the same data again, and those bytes of it are not new.
4. A reader that made OpenSSL answer something (a key update, an alert) does not wait for the peer
   to take it: ``_answer`` sends what goes at once, and leaves the rest to whose turn it is, or to a
   task of its own. Only past ``ANSWERS`` bytes does it wait, so that a peer who asks and never
   reads costs no more memory than that.
5. ``_ahead`` is False only while nothing can be received without the kernel's help: the handshake
   is done, OpenSSL has used up what there was, and no end has come. ``_rest`` is what was decrypted
   and not yet delivered (and after ``unwrap`` what followed in plain); it goes first. An end or a
   fatal error stays: ``_end``.
6. ``_open`` is True only while a send may go straight to OpenSSL: the handshake is done, nothing is
   owed, and no farewell was said. The hot paths ask for no more than these two.
7. ``try_send`` may have had a record made that the kernel took in part or not at all. It counts as
   sent, and a task that has the turn sends the rest (``_pushed``): nothing overtakes it, and nobody
   has to send again what was encrypted.
8. A handshake, and a receive in non-blocking mode, takes no more from the kernel than OpenSSL uses
   up, a record at a time: what follows stays where the system's ``select`` and ``poll`` see it, as
   over the fd. The last ``_looked`` bytes fed are copies of what the kernel still has.
"""

from __future__ import annotations

import _socket
import ssl
from socket import MSG_PEEK
from threading import Lock
from typing import Any, Final

from ...hub.interrupt import calls_user_code
from ...hub.local import this_hub
from ...hub.pollable import READ, WRITE, YES
from ...hub.spawning import spawn
from ...hub.timers import FAR
from ..naming import show
from ..socket import Socket
from .turn import Turn

RECORD: Final = 16 * 1024
"""Bytes of plaintext in the greatest record."""
BATCH: Final = 4
"""Records that go to the kernel in one call."""
FETCH: Final = BATCH * (RECORD + 22)
"""Bytes asked of the kernel at once. 22 is what TLS 1.3 adds to a record, so a stream of full ones
is cut where one ends: OpenSSL asked for the rest of a record raises, which costs as much as half a
record's decryption. ``_incoming`` keeps the memory it once needed."""
ANSWERS: Final = 16 * 1024

_C = _socket.socket
_recv = _C.recv
_send = _C.send


class Engine(Socket):
    """What an SSLSocket has of TLS, and the handshake. Made by its ``_create`` alone."""

    # Slots that ``_begin`` fills: a listener and an unconnected socket have none of them yet.
    __slots__ = (
        "_ahead",
        "_done",
        "_end",
        "_incoming",
        "_lock",
        "_looked",
        "_open",
        "_outgoing",
        "_owed",
        "_receiving",
        "_rest",
        "_sending",
        "_shut",
        "_unsent",
    )
    _sslobj: Any
    suppress_ragged_eofs: bool
    _end: BaseException | bool | None
    _rest: bytes

    def _begin(self, sslobj: Any, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        """Go on over TLS; the handshake is still to come."""
        self._incoming = incoming
        self._outgoing = outgoing
        self._lock = Lock()
        self._receiving = Turn("receive")
        self._sending = Turn("send")
        self._unsent = b""
        self._owed = self._looked = 0
        self._ahead = True
        self._open = self._done = self._shut = False
        self._end = None
        self._sslobj = sslobj

    # -- OpenSSL ---------------------------------------------------------------------------------

    def _engine(self) -> Any:
        """OpenSSL's object; the error of those who come too late if it is gone."""
        sslobj = self._sslobj
        if sslobj is None:
            self._alive()
            raise ValueError("the TLS connection was unwrapped while this call waited")
        return sslobj

    @calls_user_code
    def _step(self) -> BaseException | None:
        """Take the handshake as far as it goes; what stops it, None when it is done."""
        sslobj = self._engine()
        try:
            if self._done:
                with self._lock:
                    sslobj.do_handshake()
            else:
                sslobj.do_handshake()
        except Exception as error:
            return error
        return None

    def _shake(self, until: int, name: str = "do_handshake") -> None:
        """Do the handshake, or wait for the task that does it."""
        first = not self._done
        self._take_turn(self._receiving, READ, until, name)
        try:
            while not (first and self._done):  # another task may have done it meanwhile
                stopped = self._step()
                if not isinstance(stopped, ssl.SSLWantReadError):
                    # The last flight (a server's tickets) or the alert: not worth waiting for.
                    self._answer()
                    if stopped is not None:
                        # What lies unread at the close would make it a reset, and lose the alert.
                        self._settle(failed=True)
                        raise self._naming(stopped, "handshake")
                    if first:
                        self._settle()
                        self._ahead = self._incoming.pending > 0
                        self._done = True
                        self._open = not self._shut
                    else:
                        self._ahead = True  # there may be the rest of a record, or what it fetched
                    return
                self._flush(until, name)
                try:
                    self._feed(self._look_at(until))
                except TimeoutError:
                    raise self._timed_out(name) from None
                except OSError as error:
                    raise self._naming(error, "handshake") from None
        finally:
            self._settle()
            self._receiving.give()

    def _naming(self, error: BaseException, what: str) -> BaseException:
        """``error`` with the peer's address in its text."""
        if isinstance(error, OSError) and isinstance(error.strerror, str):
            try:
                peer = show(self.getpeername())
            except OSError:
                return error
            if not error.strerror.endswith(peer):
                error.strerror = f"{error.strerror}: {what} with {peer}"
        return error

    def _take_turn(self, turn: Turn, direction: int, until: int, name: str) -> None:
        """Wait for one's turn; as long as the deadlines, which may move, allow."""
        while not turn.try_take():
            limits = self._limits
            if limits is not None and limits.timeout == 0:
                raise _would_block(direction)
            if turn.take(until if limits is None else min(until, limits.of(direction))):
                return
            limits = self._limits
            deadline = until if limits is None else min(until, limits.of(direction))
            if deadline <= this_hub().timers.clock():
                raise self._timed_out(name)

    # -- in and out ------------------------------------------------------------------------------

    def _fetch(self, until: int) -> bytes:
        """What comes next from the kernel; parks. By the task whose turn it is."""
        try:
            data = self._read(_recv, until, FETCH)
        except BlockingIOError:
            raise _would_block(READ) from None
        self._left(self._pollable, len(data), FETCH)
        return data

    def _look_at(self, until: int) -> bytes:
        """``_fetch`` that leaves the bytes in the kernel until ``_settle`` (invariant 8)."""
        self._settle()
        try:
            data = self._read(_recv, until, FETCH, MSG_PEEK)
        except BlockingIOError:
            raise _would_block(READ) from None
        self._looked = len(data)
        return data

    def _settle(self, *, failed: bool = False) -> None:
        """Take from the kernel what OpenSSL has used of what was looked at. Doesn't park.

        All of it if the handshake has ``failed``. By the task whose turn it is.
        """
        looked, self._looked = self._looked, 0
        if not looked or self._sslobj is None or self.fileno() < 0:
            return
        with self._lock:
            rest = len(self._incoming.read())
        if failed:
            rest = 0
        if rest:
            self._pollable.readable = YES
        while looked > rest:
            try:
                looked -= len(_recv(self, looked - rest)) or looked
            except OSError:
                return  # the next call meets it again

    def _feed(self, data: bytes) -> None:
        """Put what was fetched before OpenSSL."""
        with self._lock:
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def _ship(self, records: bytes, until: int, taken: int) -> int:
        """Give ``_unsent`` and ``records`` to the kernel; parks until it has them all.

        ``taken`` is how many bytes of the program's are in it, which is returned.
        """
        if self._unsent:
            records = self._unsent + records
        self._unsent = records
        try:
            if until == FAR:
                sent = Socket.send(self, records)
            else:
                sent = self._write(_send, until, records)
            while sent != len(records):
                self._unsent = records = records[sent:]
                self._pollable.filled()
                sent = self._write(_send, until, records)
        except BlockingIOError:
            self._owed = taken
            self._open = not taken
            raise _would_block(WRITE) from None
        self._unsent = b""
        return taken

    def _flush(self, until: int, name: str) -> None:
        """Send what OpenSSL has to say; parks."""
        while self._outgoing.pending or (self._unsent and not self._done):
            self._take_turn(self._sending, WRITE, until, name)
            try:
                self._ship(self._said(), until, self._owed)
            finally:
                self._sending.give()

    def _said(self) -> bytes:
        """What OpenSSL has to say. By the task whose turn it is to send."""
        with self._lock:
            return self._outgoing.read()

    def _answer(self, *, patient: bool = True) -> None:
        """Send what OpenSSL has to say as far as it goes at once (invariant 4).

        Parks only if it is ``patient``, and there is too much to say.
        """
        while self._outgoing.pending:
            if not self._sending.try_take():
                # Whose turn it is looks afterwards.
                if patient and self._done and self._outgoing.pending > ANSWERS:
                    self._flush(FAR, "send")
                return
            try:
                self._push()
            except OSError:
                self._sending.give()  # the next call of the program's meets it
            else:
                self._pushed()

    def _push(self) -> None:
        """One attempt to send, which doesn't park. By the task whose turn it is."""
        self._unsent += self._said()
        try:
            sent = _send(self, self._unsent)
        except BlockingIOError:
            sent = 0
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._pollable.filled()

    def _pushed(self) -> None:
        """Give the turn to send back, to a task that sends what is left over if something is."""
        if self._unsent:
            spawn(self._push_rest).name = f"rest of what is sent over TLS on fd {self.fileno()}"
        else:
            self._sending.give()

    def _push_rest(self) -> None:
        """The task that sees to what was left over. It has the turn, and no time limit."""
        try:
            while True:
                self._push()
                if not self._unsent:
                    return
                self._pollable.wait_write()
        except OSError:
            pass  # as above
        finally:
            self._sending.give()
            if self._outgoing.pending and self._sslobj is not None:
                self._answer()

    # -- the end ---------------------------------------------------------------------------------

    def _drop_tls(self) -> None:
        """Be a plain socket from now on."""
        self._sslobj = None
        self._ahead = True
        self._open = False

    def _farewell(self) -> None:
        """Tell the peer that nothing more comes (close_notify), if that goes at once."""
        if self._sslobj is None or not self._done or self._shut:
            return
        self._shut = True
        self._open = False
        if isinstance(self._end, BaseException):
            return
        with self._lock:
            try:
                self._sslobj.shutdown()
            except (ssl.SSLError, ValueError):
                pass  # the peer's is still to come, or the connection is beyond it
        if self._outgoing.pending and self._sending.try_take():
            try:
                self._push()
            except OSError:
                pass  # there is nobody to tell any more
            finally:
                self._sending.give()


def _would_block(direction: int) -> ssl.SSLError:
    """What a non-blocking TLS socket raises in place of waiting."""
    if direction == READ:
        return ssl.SSLWantReadError(
            ssl.SSL_ERROR_WANT_READ, "The operation did not complete (read)"
        )
    return ssl.SSLWantWriteError(ssl.SSL_ERROR_WANT_WRITE, "The operation did not complete (write)")
