"""SSLSocket: the stdlib's ``ssl.SSLSocket``, parking the task where that blocks the thread.

It is an instance of both ``greenpump.Socket`` and ``ssl.SSLSocket``, so libraries that ask find
what they look for: what tells of the connection (``getpeercert``, ``cipher``, ``session``, ...) is
the stdlib's own code, what moves bytes is in ``stream.py`` and below it.

Where it differs from the stdlib's, on purpose
----------------------------------------------
* ``close`` and ``shutdown(SHUT_WR)`` say farewell (close_notify), if the kernel takes it at once,
  so the peer can tell an end from a cut; and after ``shutdown(SHUT_WR)`` what still comes is
  decrypted, where the stdlib hands out raw records. Source: Go's Conn.Close and CloseWrite,
  RFC 8446 §6.1.
* A reader and a writer at once are safe, also of different hubs, whatever the peer asks meanwhile.
* A ``send`` that a deadline or a cancel ended may have taken its data: that goes out before what is
  sent next, so the stream stays in order. (Go breaks the connection there; OpenSSL on an fd wants
  the same data again, and mixes up the stream if it gets other.)
* After a ``connect`` that did not succeed, or not yet, nothing leaves in plain: what is sent waits
  for a handshake, or fails as it did. (The stdlib sends it unencrypted then.)
* The peer's address stands in the text of errors.

Private names of the stdlib that this needs: ``SSLContext._wrap_bio`` and ``_encode_hostname``, and
that ``ssl.SSLSocket`` keeps its state in ``_sslobj``, ``_context``, ``_session``, ``_connected``.
"""

from __future__ import annotations

import _socket
import errno
import socket as _stdlib
import ssl
from collections.abc import Callable
from sys import _getframe
from typing import TYPE_CHECKING, Any, Self

from greenlet import getcurrent

from ...hub.interrupt import calls_user_code
from ...hub.pollable import READ, WRITE
from ...hub.spawning import yield_now
from ..base import BaseSocket
from ..detached import Wrapper, site_of
from ..socket import Socket
from .stream import Stream

if TYPE_CHECKING:
    from ...hub.task import Task

__all__ = ["SSLSocket"]

_C = _socket.socket
_send = _C.send


class _Plain(_stdlib.socket):
    """Stands before ssl.SSLSocket, whose ``__init__`` only refuses."""

    __slots__ = ()

    def __init__(self, *args: Any) -> None:
        _stdlib.socket.__init__(self, *args)


class SSLSocket(Stream, _Plain, ssl.SSLSocket):
    """A TLS connection whose methods park the calling task where the stdlib's would block.

    Made by ``SSLContext.wrap_socket``, ``wrap_socket``, ``connect(tls=)`` and ``serve(tls=)``. All
    of ``ssl.SSLSocket`` and of ``Socket`` is there but for what TLS can't do: datagrams, ancillary
    data, ``dup``, flags. Time limits hold for whole calls, handshakes and records included.
    """

    __slots__ = ()

    # The stdlib's, of which only the constructor would set them.
    server_side: bool
    do_handshake_on_connect: bool
    _connected: bool
    _context: Any
    _session: Any

    def __init__(self, *args: Any, **keywords: Any) -> None:
        raise TypeError(
            "SSLSocket has no public constructor: use SSLContext.wrap_socket or tls.wrap_socket"
        )

    @classmethod
    def _create(
        cls,
        sock: _stdlib.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        context: Any = None,
        session: Any = None,
    ) -> Self:
        """What ``SSLContext.wrap_socket`` calls; the parameters are its."""
        if sock.getsockopt(_stdlib.SOL_SOCKET, _stdlib.SO_TYPE) != _stdlib.SOCK_STREAM:
            raise NotImplementedError("only stream sockets are supported")
        if server_side and server_hostname:
            raise ValueError("server_hostname can only be specified in client mode")
        if server_side and session is not None:
            raise ValueError("session can only be specified in client mode")
        if context.check_hostname and not server_hostname:
            raise ValueError("check_hostname requires server_hostname")
        rest = b""
        if isinstance(sock, ssl.SSLSocket):
            if sock._sslobj is not None:  # type: ignore[attr-defined]
                raise NotImplementedError("TLS within TLS: unwrap the connection first")
            if isinstance(sock, SSLSocket):
                rest, sock._rest = sock._rest, b""
        timeout = sock.gettimeout()
        self = cls.__new__(cls)
        BaseSocket.__init__(self, sock.family, sock.type, sock.proto, sock.fileno())
        sock.detach()
        _C.setblocking(self, False)  # detach may have handed it out in blocking mode
        self._context = context
        self._session = session
        self._drop_tls()
        self._rest = b""
        self.server_side = server_side
        self.do_handshake_on_connect = do_handshake_on_connect
        self.suppress_ragged_eofs = suppress_ragged_eofs
        try:
            self.server_hostname = context._encode_hostname(server_hostname)
            self._connected = self._is_connected()
            self.settimeout(timeout)
            if self._connected:
                self._start_tls(rest)
                if do_handshake_on_connect:
                    if timeout == 0:
                        raise ValueError(
                            "do_handshake_on_connect should not be specified for non-blocking "
                            "sockets"
                        )
                    self.do_handshake()
        except BaseException:
            self.close()
            raise
        return self

    def _is_connected(self) -> bool:
        """Raises SSLError where plain data has come over a connection that is gone already.

        It must not pass for what came over TLS (CVE-2023-40217).
        """
        try:
            self.getpeername()
            return True
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
        try:
            data = _C.recv(self, 1)
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.EINVAL):
                raise
            data = b""
        if data:
            raise _refusal(errno.ENOTCONN, "Closed before TLS handshake with data in recv buffer.")
        return False

    def _start_tls(self, received: bytes = b"") -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        if received:
            incoming.write(received)
        sslobj = self._context._wrap_bio(
            incoming,
            outgoing,
            server_side=self.server_side,
            server_hostname=self.server_hostname,
            owner=self,
            session=self._session,
        )
        self._begin(sslobj, incoming, outgoing)

    def verify_client_post_handshake(self) -> None:
        """Ask the client for its certificate, TLS 1.3: with the next send or receive. Doesn't park.

        Raises ssl.SSLError, ValueError without TLS. Source: ssl.SSLSocket.
        """
        ssl.SSLSocket.verify_client_post_handshake(self)
        self._ahead = True  # OpenSSL is asked before the kernel is waited for

    # -- connecting ------------------------------------------------------------------------------

    def do_handshake(self, block: bool = False) -> None:
        """Do the handshake; parks. ``block``: also in non-blocking mode.

        Raises ssl.SSLCertVerificationError and other ssl.SSLErrors, TimeoutError, OSError, with the
        peer's address in their text. Source: ssl.SSLSocket.do_handshake.
        """
        if not self._connected:
            self.getpeername()  # tells why not
        if self._sslobj is None:
            raise ValueError("No SSL wrapper around " + str(self))
        timeout = self.gettimeout()
        if timeout == 0 and block:
            self.settimeout(None)
        try:
            self._shake(self._until(WRITE, "do_handshake"))
        finally:
            if timeout == 0 and block:
                self.settimeout(timeout)

    def connect(self, address: Any, /) -> None:
        """Connect and do the handshake, each within the timeout; parks."""
        self._before_connect()
        Socket.connect(self, address)
        self._after_connect()

    def connect_ex(self, address: Any, /) -> int:
        """``connect`` that returns the errno of a failed TCP connection; parks."""
        self._before_connect()
        code = _connect_ex(self, address)
        if not code:
            self._after_connect()
        return code

    def _before_connect(self) -> None:
        if self.server_side:
            raise ValueError("can't connect in server-side mode")
        if self._connected or (self._sslobj is not None and self._done):
            raise ValueError("attempt to connect already-connected SSLSocket!")
        # Before the kernel connects, and for good: nothing may leave in plain while it is at it
        # (non-blocking mode, a timeout, another task), nor after a handshake that failed.
        self._start_tls()

    def _after_connect(self) -> None:
        self._connected = True
        if self.do_handshake_on_connect:
            self.do_handshake()

    def accept(self) -> tuple[Self, Any]:
        """The next connection over TLS and its peer's address; parks.

        With ``do_handshake_on_connect`` it does the handshake, too, and a slow client delays the
        next one: a server is better off with ``serve(tls=)``.
        """
        conn, address = Socket.accept(self)
        wrapped = type(self)._create(
            conn,
            server_side=True,
            do_handshake_on_connect=self.do_handshake_on_connect,
            suppress_ragged_eofs=self.suppress_ragged_eofs,
            context=self._context,
        )
        return wrapped, address

    # -- the end ---------------------------------------------------------------------------------

    def unwrap(self) -> Self:
        """Say farewell, wait for the peer's, and go on in plain over the same socket; parks.

        Returns itself. Raises ValueError where there is no TLS, ssl.SSLError when the peer sends
        on or cuts the connection, or what it has sent was not all received yet. Source:
        ssl.SSLSocket.unwrap.
        """
        if self._sslobj is None:
            raise ValueError("No SSL wrapper around " + str(self))
        until = self._until(READ, "unwrap")
        self._refuse_unread()
        try:
            # Ours goes first: a task that receives has its turn until the peer's has come.
            if self._part():
                self._flush(until, "unwrap")
                self._take_turn(self._receiving, READ, until, "unwrap")
                try:
                    while self._part():
                        self._feed(self._fetch(until))
                finally:
                    self._receiving.give()
        except ssl.SSLError:
            self._answer()  # our farewell, and the alert that tells the peer why
            raise
        self._flush(until, "unwrap")
        with self._lock:
            if self._rest:
                self._ahead = self._end = True  # they can still be received
            self._refuse_unread()
            self._drop_tls()
            self._rest = self._incoming.read()
        return self

    def _refuse_unread(self) -> None:
        """Raises SSLError where OpenSSL would if it still had what we have decrypted already."""
        if self._rest:
            raise _refusal(
                ssl.SSL_ERROR_SSL, "unwrap before all that came over TLS has been received"
            )

    def _part(self) -> bool:
        """Take the farewell as far as it goes; whether the peer's is still to come."""
        with self._lock:
            try:
                self._engine().shutdown()
            except ssl.SSLWantReadError:
                return True
            except ssl.SSLError as error:
                if self._end is None and error.reason != "SHUTDOWN_WHILE_IN_INIT":
                    # OpenSSL can't go on, and would have who receives wait for more for ever.
                    self._ahead = True
                    self._end = error
                raise self._naming(error, "unwrap") from None
            return False

    def shutdown(self, how: int) -> None:
        """End one or both directions; with the sending one goes a farewell. Doesn't park."""
        if how != _stdlib.SHUT_RD:
            self._farewell()
        Socket.shutdown(self, how)

    def abort(self) -> None:
        """As ``Socket.abort``: no farewell."""
        self._drop_tls()
        super().abort()

    def detach(self) -> int:
        """Give the fd away, in the middle of TLS if need be: OpenSSL's state is lost."""
        self._drop_tls()
        return super().detach()

    def _real_close(self, *args: Any) -> None:
        try:
            self._farewell()
        finally:
            self._drop_tls()
            super()._real_close(*args)

    # -- without a task --------------------------------------------------------------------------

    def detach_until_readable(self, fn: Callable[[Self], object], *, persist: bool = False) -> None:
        """As ``Socket``'s: hold no task until something can be received; then spawn ``fn(conn)``.

        That is plaintext, an end or an error: what else the peer says (tickets, key updates, a part
        of a record) is dealt with meanwhile.
        """
        if not callable(fn):
            raise TypeError(f"detach_until_readable needs a callable, not {fn!r}")
        self._alive()
        there = self._has_plaintext()
        if there is None:
            raise RuntimeError(f"a task waits to receive from fd {self.fileno()}")
        self._detach(_Plaintext(fn), persist, site_of(_getframe(1)), there)

    def _has_plaintext(self) -> bool | None:
        """Whether plaintext, an end or an error can be received; None if somebody is about to."""
        if self._sslobj is None:
            return bool(self._rest)
        if not self._receiving.try_take():
            return None
        try:
            return self._done and self._look(ask_kernel=True)
        finally:
            self._receiving.give()

    # -- what TLS can't do -----------------------------------------------------------------------

    def dup(self) -> Any:
        """Raises NotImplementedError: two objects can't share a TLS connection's state."""
        raise NotImplementedError(f"Can't dup() {type(self).__name__} instances")

    def recvfrom(self, bufsize: int = 1024, flags: int = 0) -> tuple[bytes, Any]:
        """Raises ValueError over TLS."""
        self._refuse("recvfrom")
        return Socket.recvfrom(self, bufsize, flags)

    def recvfrom_into(
        self, buffer: Any, nbytes: int | None = None, flags: int = 0
    ) -> tuple[int, Any]:
        """Raises ValueError over TLS."""
        self._refuse("recvfrom_into")
        return Socket.recvfrom_into(self, buffer, nbytes or 0, flags)

    def sendto(self, data: Any, *args: Any) -> int:
        """Raises ValueError over TLS."""
        self._refuse("sendto")
        return Socket.sendto(self, data, *args)

    def recvmsg(self, *args: Any, **keywords: Any) -> Any:
        """Raises NotImplementedError."""
        raise NotImplementedError(f"recvmsg not allowed on instances of {type(self)}")

    def recvmsg_into(self, *args: Any, **keywords: Any) -> Any:
        """Raises NotImplementedError."""
        raise NotImplementedError(f"recvmsg_into not allowed on instances of {type(self)}")

    def sendmsg(self, *args: Any, **keywords: Any) -> Any:
        """Raises NotImplementedError, so that nothing leaves unencrypted."""
        raise NotImplementedError(f"sendmsg not allowed on instances of {type(self)}")

    def _refuse(self, name: str) -> None:
        if self._sslobj is not None:
            raise ValueError(f"{name} not allowed on instances of {type(self)}")


class _Plaintext(Wrapper):
    """It is called if the records that have come say something to it."""

    __slots__ = ()

    @calls_user_code
    def __call__(self, conn: Any, /) -> object:
        task: Task[Any] = getcurrent().task  # type: ignore[attr-defined]
        if conn._sslobj is not None and conn._done and conn._has_plaintext() is False:
            if not task.persists:
                conn._detach(self, False, task.site)
            return None
        self.__wrapped__(conn)
        # Of what is decrypted already the kernel won't tell.
        while task.persists and conn.fileno() >= 0 and conn._has_plaintext():
            self.__wrapped__(conn)
            yield_now()  # and then it may be closed, or have been read by another
        return None


def _refusal(code: int, reason: str) -> ssl.SSLError:
    """An SSLError of our own, with the attributes that OpenSSL's have."""
    refusal = ssl.SSLError(code, reason)
    refusal.reason = reason
    refusal.library = None  # type: ignore[assignment]
    return refusal


def _connect_ex(sock: SSLSocket, address: Any) -> int:
    """Socket.connect_ex calls ``connect``, which is TLS's."""
    try:
        Socket.connect(sock, address)
    except _stdlib.gaierror:
        raise
    except TimeoutError as error:
        return error.errno or errno.EAGAIN
    except OSError as error:
        if error.errno is None:
            raise
        return error.errno
    return 0
