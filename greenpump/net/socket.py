"""Socket: a ``socket.socket`` whose calls park the task instead of blocking the thread.

A drop-in: same methods, same errors, same timeouts, for TCP, UDP, unix and raw sockets. This file
has the calls that servers make all day; the rest is in ``base.py`` (state, time limits, waiting),
``messages.py``, ``streams.py``, ``options.py`` and ``detached.py``.

Invariants of the hot path (beside those of ``base.py``)
--------------------------------------------------------
1. Attempt first: a call that can succeed at once makes one syscall and does not park. The attempt
   is left out only when the pollable knows the answer would be EAGAIN (an exception costs 1.5 µs).
   So a steady echo makes one failed flag check, one park, one recv and one send.
2. On a stream, fewer bytes than asked for mean that the kernel's buffer is empty: no further
   attempt until the next edge. As many as asked for mean that there may be more: asked of the
   kernel before the next attempt, or taken for granted when it was a large read. See ``_records``
   for who can't tell from the length.
3. What the last message was, the next will be: after a small one, ``SMALL`` bytes are asked for
   and the rest of ``bufsize`` only if they came full. A bytes object of 16 KiB that is cut down to
   64 costs a trip through malloc, more than all of this module's Python.
4. Bad arguments are found before parking, not when data has come: ``_usual`` is the size that was
   found good, and all else takes the way that attempts or checks. It is ``UNUSUAL`` whenever the
   hot path may not be taken at all: a time limit, datagrams, a long message the last time.
5. A stream that nobody has waited for yet is not registered with epoll, and a read that follows a
   short one lets the other tasks that are ready run before it tries (``_ask``), the first few
   times. So in a storm of short connections hardly any is ever registered.
6. An operation that did not have to wait is charged to the hub's quota, *before* the syscall: the
   yield may raise Cancelled, and nothing sent or received may be lost to that.
"""

from __future__ import annotations

import _socket
import os
import socket as _stdlib
import sys
from errno import EAGAIN, EINPROGRESS
from operator import index
from select import POLLOUT, poll
from typing import Any, Self

from greenlet import getcurrent

from ..hub.local import this_hub
from ..hub.pollable import NO, READ, WRITE, YES, Pollable
from ..hub.timers import FAR
from .addresses import numeric
from .base import FIRST_PAUSE, LONGEST_PAUSE, UNUSUAL, _family, _type
from .detached import Detachable
from .messages import DONTWAIT, NEVER_WAITS, WAITALL, Messages, _fits
from .options import Options
from .streams import Streams

SMALL = 448
"""Bytes; an object of this size and its header still come from CPython's own allocator."""

_C = _socket.socket
_accept = _C._accept  # type: ignore[attr-defined]
_bind = _C.bind
_connect = _C.connect
_proto = _C.proto.__get__
_recv = _C.recv
_recv_into = _C.recv_into
_send = _C.send
# What the hot path calls when there are no flags: the same to a socket, but they parse and prepare
# less, a third of what the two calls of an echo cost outside the kernel.
_os_read = os.read
_os_write = os.write


class Socket(Streams, Messages, Detachable, Options):
    """A ``socket.socket`` whose methods park the calling task where the original would block.

    Made like ``socket.socket``, by ``accept``, or with ``from_stdlib`` from a socket of somebody
    else's. Any number of tasks may use it at once, also of other hubs; several that wait to receive
    are served first come, first served. Closing wakes them with OSError (EBADF).
    """

    __slots__ = ()

    # -- receiving -------------------------------------------------------------------------------

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive up to ``bufsize`` bytes, b"" at the stream's end; parks until there are some.

        ``flags`` are MSG_*, man 2 recv. Raises TimeoutError, OSError as socket.socket.recv.
        """
        if flags or bufsize is not self._usual:
            return self._recv_unusual(bufsize, flags)
        pollable = self._pollable
        # Not kept beside ``_usual``: another thread's recv of another size may change both between
        # two looks, and more would be read than is asked for here.
        size = bufsize if bufsize < SMALL else SMALL
        if pollable.readable:
            if pollable.readable is not getcurrent():
                return self._recv_at_hand(pollable, bufsize)
            pollable.readable = NO  # before the read: an edge that comes from here on is news
        else:
            # Pollable.wait_read, written out: a call less for every message.
            hub = pollable.hub
            task = hub.current
            if (
                task.glet is not getcurrent()
                or task.scope is not None
                or pollable.reader is not None
                or pollable.crowd is not None
            ):
                pollable.wait(READ)
            else:
                pollable.reader = task
                task.wait = pollable
                try:
                    trouble = hub.park(task)
                except BaseException:
                    if pollable.reader is task:
                        pollable.reader = None
                    task.wait = task.trouble = None
                    pollable.readable = YES
                    raise
                if trouble is not None:
                    hub.settle(task, FAR)
        try:
            data = _os_read(pollable.fd, size)
        except BlockingIOError:
            return self._recv_specially(bufsize, 0)  # woken in vain: to see a new deadline?
        except BaseException:
            pollable.more_to_read()
            raise
        # All that was asked for, of a level-triggered one: the next poll tells what is left.
        if (len(data) == size and not (pollable.level and size == bufsize)) or pollable.readable:
            return self._recv_rest(pollable, data, size, bufsize)
        return data

    def _recv_unusual(self, bufsize: int, flags: int) -> bytes:
        """recv with another size than the last time, or where the hot path may not be taken."""
        if flags or not self._plain or type(bufsize) is not int or bufsize < 1:
            return self._recv_specially(bufsize, flags)
        pollable = self._pollable
        if not self._bulky:
            self._usual = bufsize
            if self._limits is not None:  # another thread has set one since the look at _plain
                self._usual = UNUSUAL
            if not pollable.readable:
                return Socket.recv(self, bufsize)  # a subclass may have its own
        return self._recv_at_hand(pollable, bufsize)

    def _recv_at_hand(self, pollable: Pollable, bufsize: int) -> bytes:
        """recv on a plain socket that may have something already, or had much the last time."""
        readable = pollable.readable
        data: bytes | None = None
        if readable and self._may_try(pollable, readable):
            if pollable.hub.current.glet is getcurrent() and not pollable.hup:
                pollable.readable = NO  # as above
            try:
                data = _os_read(pollable.fd, bufsize)
            except BlockingIOError:
                pollable.drained()
            except BaseException:
                pollable.more_to_read()
                raise
        if data is None:
            pollable.wait_read()
            try:
                data = _os_read(pollable.fd, bufsize)
            except BlockingIOError:
                return self._recv_specially(bufsize, 0)
            except BaseException:
                pollable.more_to_read()
                raise
        if len(data) < bufsize and not pollable.readable:
            self._bulky = len(data) >= SMALL
            if self._bulky:
                self._usual = UNUSUAL
            return data
        return self._recv_rest(pollable, data, bufsize, bufsize)

    def _recv_rest(self, pollable: Pollable, data: bytes, size: int, bufsize: int) -> bytes:
        """``data`` was received of ``size``; go on if that was a guess, and say what is left."""
        got = len(data)
        if size < bufsize and got == size:
            self._bulky = True
            self._usual = UNUSUAL
            try:
                data += _os_read(pollable.fd, bufsize - size)
            except BlockingIOError:
                pollable.drained()
                return data
            except OSError:
                pollable.more_to_read()  # what came counts first; the next call meets it again
                return data
        else:
            self._bulky = got >= SMALL
            if self._bulky:
                self._usual = UNUSUAL
        if len(data) < bufsize or not pollable.level:
            self._left(pollable, len(data), bufsize)
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Receive into a writable buffer, at most ``nbytes`` (0: its size); parks.

        Returns the number of bytes, 0 at the end of the stream. man 2 recv
        """
        if flags & NEVER_WAITS or not _fits(buffer, nbytes):
            return _recv_into(self, buffer, nbytes, flags)
        size = nbytes or memoryview(buffer).nbytes
        if not size:
            return 0
        if flags & WAITALL and self._is_stream():
            data = self.recv(size, flags)
            memoryview(buffer).cast("B")[: len(data)] = data
            return len(data)
        received = self._read(_recv_into, None, buffer, nbytes, flags)
        if not (flags or self._records):
            self._left(self._pollable, received, size)
        return received

    def _recv_specially(self, bufsize: int, flags: int) -> bytes:
        """recv with a time limit, with flags, or with arguments to be looked at."""
        limits = self._limits
        if limits is not None and limits.timeout and limits.read == FAR and not flags:
            pollable = self._pollable
            if type(bufsize) is int and bufsize > SMALL and not (pollable.readable or self._bulky):
                return self._recv_within(pollable, bufsize, limits.timeout)
        bufsize = index(bufsize)
        if bufsize < 1 or flags & NEVER_WAITS:
            return _recv(self, bufsize, flags)
        if flags & WAITALL and self._is_stream():
            return self._recv_all(bufsize, flags)
        data = self._read(_recv, None, bufsize, flags)
        if not (flags or self._records):
            self._left(self._pollable, len(data), bufsize)
        return data

    def _recv_within(self, pollable: Pollable, bufsize: int, seconds: float) -> bytes:
        """``recv`` in its hot case, with a timeout."""
        if not pollable.wait_read_until(this_hub().timers.after(seconds)):
            raise self._timed_out("recv")
        try:
            data = _recv(self, SMALL)
        except BlockingIOError:
            return self._recv_specially(bufsize, 0)
        except BaseException:
            pollable.more_to_read()
            raise
        if len(data) == SMALL or pollable.readable:
            return self._recv_rest(pollable, data, SMALL, bufsize)
        return data

    def _recv_all(self, size: int, flags: int) -> bytes:
        """MSG_WAITALL, which the kernel doesn't heed on a non-blocking fd."""
        if self.gettimeout() == 0 or flags & _stdlib.MSG_PEEK:
            return self._read(_recv, None, size, flags)
        until = self._until(READ, "recv")
        pieces: list[bytes] = []
        while size:
            try:
                piece = self._read(_recv, until, min(size, 1 << 20), flags)
            except OSError:
                if not pieces:
                    raise
                break  # as the kernel does: what came counts more than why no more came
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    # -- sending ---------------------------------------------------------------------------------

    def send(self, data: Any, flags: int = 0, /) -> int:
        """Send ``data`` or its beginning; returns how many bytes; parks until some are taken.

        ``flags`` are MSG_*, man 2 send. Raises TimeoutError, OSError as socket.socket.send.
        """
        pollable = self._pollable
        if pollable.writable and self._eager:
            hub = pollable.hub
            hub.quota = quota = hub.quota - 1
            if quota < 0:
                pollable.charge()
            try:
                return _send(self, data, flags) if flags else _os_write(pollable.fd, data)
            except BlockingIOError:
                pollable.filled()
        memoryview(data).release()  # the stdlib's error for what is no buffer, before any wait
        if flags & DONTWAIT:
            return _send(self, data, flags)
        return self._write(_send, None, data, flags)

    def try_send(self, data: Any) -> int:
        """Send what fits at this moment, and return how many bytes that was; 0 when nothing fits.

        For a sender that serves many and waits for none. It neither parks nor yields, so no other
        task of the hub runs meanwhile, and time limits don't apply. Raises OSError as ``send``
        (EPIPE, ECONNRESET, EBADF, ...). man 2 send, MSG_DONTWAIT
        """
        # Always tried: of a socket that nobody has waited for yet, no edge would tell of new room.
        pollable = self._pollable
        pollable.hub.quota -= 1  # it doesn't let others run, but a yield among many is to poll
        try:
            return _os_write(pollable.fd, data)
        except BlockingIOError:
            pollable.filled()
            return 0

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send all of ``data``; parks as often as it takes. A timeout limits the whole call.

        Raises TimeoutError, OSError as socket.socket.sendall: how much was sent is then unknown.
        """
        pollable = self._pollable
        if pollable.writable and self._eager:
            hub = pollable.hub
            hub.quota = quota = hub.quota - 1
            if quota < 0:
                pollable.charge()
            try:
                sent = _send(self, data, flags) if flags else _os_write(pollable.fd, data)
            except BlockingIOError:
                pollable.filled()
                sent = -1
            else:
                if type(data) is bytes and sent == len(data):
                    return
        else:
            sent = -1
        self._send_rest(data, flags, sent)

    def _send_rest(self, data: Any, flags: int, sent: int) -> None:
        """The rest of a sendall whose first attempt sent so many bytes; -1 when none was made."""
        with memoryview(data) as whole:
            if not whole.c_contiguous:
                _send(self, data, flags)  # raises
            size = whole.nbytes
            if not size:
                if sent < 0:
                    self.send(data, flags)
                return
            once = flags & DONTWAIT
            until = self._until(WRITE, "sendall")
            sent = max(sent, 0)
            with whole.cast("B") as view:
                while sent < size:
                    if sent and not self._records:
                        self._pollable.filled()  # cut short: a further attempt would be in vain
                    with view[sent:] as rest:
                        if once:
                            sent += _send(self, rest, flags)
                        else:
                            sent += self._write(_send, until, rest, flags)

    # -- connections -----------------------------------------------------------------------------

    def accept(self) -> tuple[Socket, Any]:
        """The next connection and its peer's address; parks until there is one. man 2 accept

        Several tasks may accept on one listener. Raises OSError (EMFILE, ENFILE, ECONNABORTED,
        ...), after which the listener works on.
        """
        pollable = self._pollable
        if pollable.readable == YES and self._limits is None:
            self._charge(pollable)
            try:
                fd, address = _accept(self)
            except BlockingIOError:
                pollable.drained()
                fd, address = self._read_later(_accept, FAR)
        else:
            self._records = True  # each connection is one: see base.py
            fd, address = self._read(_accept, None)
        try:
            return Socket(_family(self), _type(self), _proto(self), fileno=fd), address
        except BaseException:
            os.close(fd)
            raise

    def bind(self, address: Any, /) -> None:
        """Take a local address. Parks only while a name in it is looked up. man 2 bind"""
        _bind(self, numeric(self, address))

    def connect(self, address: Any, /) -> None:
        """Connect to ``address``; parks until the connection stands. man 2 connect

        A name is looked up first, and its first address taken. Raises TimeoutError,
        ConnectionRefusedError and other OSErrors, socket.gaierror when there is no such name.
        """
        limits = self._limits
        if limits is not None and limits.timeout == 0:
            _connect(self, numeric(self, address))
            return
        until = self._until(WRITE, "connect")
        address = numeric(self, address)
        pollable = self._pollable
        if pollable.is_mine() and _type(self) == _stdlib.SOCK_STREAM:
            # What epoll said of the unconnected socket (HUP) doesn't hold for the connection.
            pollable.hup = False
        pause = FIRST_PAUSE
        while True:
            try:
                _connect(self, address)
                return
            except BlockingIOError as error:
                if error.errno == EINPROGRESS:
                    break
                if error.errno != EAGAIN or _family(self) != _stdlib.AF_UNIX:
                    raise
            self._pause(WRITE, until, pause, "connect")
            pause = min(2 * pause, LONGEST_PAUSE)
        pollable.filled()
        connected = False
        while not connected:
            self._wait(pollable, WRITE, until, "connect")
            try:
                connected = self._has_connected(address)
            except BaseException:
                pollable.more_to_write()
                raise
        pollable.more_to_write()

    def _has_connected(self, address: Any) -> bool:
        """How an asynchronous connect ended; False if it hasn't (we were woken for a deadline)."""
        if _family(self) in (_stdlib.AF_INET, _stdlib.AF_INET6):
            # Asked like this, the kernel also makes the socket fit for another try after a failure.
            try:
                _connect(self, address)
            except BlockingIOError:
                return False
            return True
        code = self.getsockopt(_stdlib.SOL_SOCKET, _stdlib.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        poller = poll()
        poller.register(self.fileno(), POLLOUT)
        return bool(poller.poll(0))

    def connect_ex(self, address: Any, /) -> int:
        """``connect`` that returns the errno in place of raising it; 0 when connected. Parks.

        EAGAIN is a timeout. Errors of the address itself are raised. Source: socket.connect_ex.
        """
        try:
            self.connect(address)
        except _stdlib.gaierror:
            raise
        except TimeoutError as error:
            return error.errno or EAGAIN
        except OSError as error:
            if error.errno is None:
                raise
            return error.errno
        return 0

    @classmethod
    def from_stdlib(cls, sock: _stdlib.socket) -> Self:
        """Adopt a socket: the new Socket owns its fd and timeout, and ``sock`` is detached.

        Doesn't park. Raises TypeError for what is no socket or a TLS one, whose state would be
        lost, OSError (EBADF) for a closed one.
        """
        ssl: Any = sys.modules.get("ssl")
        plain: bool = isinstance(sock, _stdlib.socket)
        if not plain or (ssl is not None and isinstance(sock, ssl.SSLSocket)):
            raise TypeError(f"from_stdlib needs a plain socket.socket, not {sock!r}")
        timeout = sock.gettimeout()
        family, kind, proto = _family(sock), _type(sock), _proto(sock)
        adopted = cls(family, kind, proto, fileno=sock.fileno())
        sock.detach()
        adopted.settimeout(timeout)
        return adopted
