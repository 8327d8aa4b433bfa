"""connect: a connection to a name, over whichever of its addresses answers first.

Happy Eyeballs (RFC 8305): the addresses take turns between IPv6 and IPv4; the next attempt begins
250 ms after the one before, or at once when that has failed; the first to stand wins. So a client
whose IPv6 leads nowhere waits a quarter of a second, not two minutes.

Invariants
----------
1. Each attempt is a task that owns its socket until it reports. Whoever the race ends for
   (success, failure, deadline, cancel), every socket but the winner's is closed when ``connect``
   returns or raises.
2. One address is tried in the calling task: no race, no further task.

Of RFC 8305 it leaves out the resolution delay (§3): the system's resolver gives both families at
once, sorted (§4).

Rejected: racing non-blocking sockets without tasks (no simpler, and it would know the connect
sequence a second time); all addresses at once (it loads servers with connections nobody uses).
"""

from __future__ import annotations

import errno
import os
import socket as _stdlib
from collections import deque
from contextlib import suppress
from functools import cache
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from ..hub.local import this_hub
from ..hub.scope import move_on_after, shield
from ..hub.spawning import spawn
from ..hub.task import Task
from ..hub.timers import FAR
from ..hub.wait import wake
from .dns import Address, resolve
from .naming import show, unix_path
from .socket import Socket

if TYPE_CHECKING:
    import ssl

    from .tls.socket import SSLSocket

__all__ = ["connect"]

ATTEMPT_DELAY: Final = 0.25
"""Seconds between the beginnings of two attempts (RFC 8305 §5)."""

_BIND_ADDRESS_NO_PORT = 24  # linux/in.h; CPython has no name for it before 3.12


@overload
def connect(
    addr: Any,
    timeout: float | None = None,
    *,
    source: Any = None,
    family: int = 0,
    nodelay: bool = True,
    tls: Literal[False] | None = None,
    server_hostname: None = None,
) -> Socket: ...


@overload
def connect(
    addr: Any,
    timeout: float | None = None,
    *,
    source: Any = None,
    family: int = 0,
    nodelay: bool = True,
    tls: ssl.SSLContext | Literal[True],
    server_hostname: str | None = None,
) -> SSLSocket: ...


@overload
def connect(
    addr: Any,
    timeout: float | None = None,
    *,
    source: Any = None,
    family: int = 0,
    nodelay: bool = True,
    tls: ssl.SSLContext | bool | None,
    server_hostname: str | None = None,
) -> Socket: ...


def connect(
    addr: Any,
    timeout: float | None = None,
    *,
    source: Any = None,
    family: int = 0,
    nodelay: bool = True,
    tls: ssl.SSLContext | bool | None = None,
    server_hostname: str | None = None,
) -> Socket:
    """Connect a stream socket to ``addr`` and return it. Parks.

    ``addr`` is ``(host, port)`` for TCP (an IPv6 address may come with flow label and scope, as
    ``getpeername`` gives it), or a path (str, bytes, PathLike) for a unix socket, with a leading
    NUL for an abstract one. ``timeout`` is in seconds, for the look-up of the name and all attempts
    together; the socket that is returned has no timeout. ``source`` is the local address to come
    from, in the same forms, port 0 for any. ``family`` (AF_INET, AF_INET6) restricts a name to its
    addresses of that family. ``nodelay`` sets TCP_NODELAY: small writes leave at once.

    ``tls`` is a context for a TLS connection, whose handshake is then done, within ``timeout``,
    too; True means ``ssl.create_default_context()``, which trusts what the system trusts (made
    once, when first asked for). ``server_hostname`` is whom the certificate must be for and whom to
    ask for (SNI), by default the host of ``addr``.

    Raises TimeoutError that names ``addr`` and what was tried; the address's own OSError
    (ConnectionRefusedError, ...) when there was one address; when all of several failed an OSError
    with the last one's errno whose message lists them all; socket.gaierror when there is no such
    name; ssl.SSLError (SSLCertVerificationError, ...) that names the address; TypeError,
    ValueError, Cancelled. Source: RFC 8305, socket.create_connection, Go's net.Dialer.
    """
    context = _context(tls, server_hostname)
    if context is not None and server_hostname is None and isinstance(addr, tuple) and addr:
        server_hostname = addr[0].decode("ascii") if isinstance(addr[0], bytes) else addr[0]
    race = _Race()
    with move_on_after(timeout) as limit:
        sock = _connect_plain(addr, race, source, family, nodelay)
        if context is None:
            return sock
        race.secures = True
        try:
            from .tls.socket import SSLSocket  # here: see serve

            return SSLSocket._create(sock, context=context, server_hostname=server_hostname)
        except BaseException:
            sock.close()
            raise
    raise TimeoutError(
        errno.ETIMEDOUT,
        f"no connection to {show(addr)} within {limit.seconds} s{race.told()}",
    )


def _context(tls: Any, server_hostname: str | None) -> ssl.SSLContext | None:
    if tls is None or tls is False:
        if server_hostname is not None:
            raise ValueError("server_hostname is for TLS: say tls=True or tls=context, too")
        return None
    if tls is True:
        return _default_context()
    import ssl

    if not isinstance(tls, ssl.SSLContext):
        raise TypeError(f"connect needs an ssl.SSLContext or True for tls, not {tls!r}")
    return tls


@cache
def _default_context() -> ssl.SSLContext:
    import ssl

    return ssl.create_default_context()


def _connect_plain(addr: Any, race: _Race, source: Any, family: int, nodelay: bool) -> Socket:
    """Over TCP or a unix socket, without a time limit of its own."""
    if isinstance(addr, (str, bytes, os.PathLike)):
        return _attempt(_stdlib.AF_UNIX, 0, unix_path(addr), source, False)
    if not isinstance(addr, tuple) or len(addr) not in (2, 4):
        raise TypeError(
            "connect needs (host, port), or the path of a unix socket as str or bytes, "
            f"not {addr!r}"
        )
    targets = _targets(addr, family)
    if source is None:
        origins: dict[int, Any] = {}
    else:
        origins = _origins(source)
        targets = [target for target in targets if target[0] in origins]
        if not targets:
            raise OSError(
                errno.EAFNOSUPPORT,
                f"{show(addr)} has no address of the source's family ({show(source)})",
            )
    if len(targets) == 1:
        target_family, _, proto, _, sockaddr = targets[0]
        origin = origins.get(target_family)
        return _attempt(target_family, proto, sockaddr, origin, nodelay)
    return race.run(addr, targets, origins, nodelay)


def _targets(addr: tuple[Any, ...], family: int) -> list[Address]:
    """The addresses to try, families in turns, beginning with the resolver's favourite."""
    host, port, *rest = addr
    found = resolve(host, port, family, _stdlib.SOCK_STREAM)
    first = [each for each in found if each[0] == found[0][0]]
    others = [each for each in found if each[0] != found[0][0]]
    turns = [each for each in chain(*zip_longest(first, others)) if each is not None]
    if rest:
        return [
            (*each[:4], (*each[4][:2], *rest)) if each[0] == _stdlib.AF_INET6 else each
            for each in turns
        ]
    return turns


def _origins(source: Any) -> dict[int, Any]:
    """The local address to come from, for each family."""
    if not isinstance(source, tuple) or len(source) < 2:
        raise TypeError(f"source must be (host, port) as the address is, not {source!r}")
    found = resolve(source[0], source[1], 0, _stdlib.SOCK_STREAM, 0, _stdlib.AI_PASSIVE)
    return {each[0]: each[4] for each in reversed(found)}


def _attempt(family: int, proto: int, sockaddr: Any, origin: Any, nodelay: bool) -> Socket:
    """One connected socket, or the error with the address in it."""
    sock = Socket(family, _stdlib.SOCK_STREAM, proto)
    try:
        _connect(sock, sockaddr, origin, nodelay)
    except OSError as error:
        sock.close()
        raise _naming(error, sockaddr, origin) from None
    except BaseException:
        sock.close()
        raise
    return sock


def _connect(sock: Socket, sockaddr: Any, origin: Any, nodelay: bool) -> None:
    sock.settimeout(None)  # setdefaulttimeout is for those who can't say ``timeout=``
    tcp = sock.family != _stdlib.AF_UNIX
    if origin is not None:
        if tcp and not origin[1]:
            # The port is then chosen at connect, and need be free for this destination alone.
            with suppress(OSError):  # Linux before 4.2, gVisor
                sock.setsockopt(_stdlib.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        sock.bind(origin)
    if tcp and nodelay:
        sock.setsockopt(_stdlib.IPPROTO_TCP, _stdlib.TCP_NODELAY, 1)
    sock.connect(sockaddr)
    if tcp and sock.getsockname()[:2] == sockaddr[:2]:
        # Nobody listens there, and the kernel took that very port for ours: TCP's simultaneous
        # open with itself. Go's net package has it too (selfConnect).
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


def _naming(error: OSError, sockaddr: Any, origin: Any) -> OSError:
    """``error`` with the address that it is about."""
    if error.errno is None:
        return error
    place = show(sockaddr) if origin is None else f"{show(sockaddr)} from {show(origin)}"
    return OSError(error.errno, f"{os.strerror(error.errno)}: connecting to {place}")


class _Race:
    """Attempts that overlap. They report to the task that began them, all on one hub."""

    __slots__ = ("_errors", "_live", "_reports", "_waiting", "_what", "secures")

    def __init__(self) -> None:
        self.secures = False
        self._errors: list[tuple[Any, OSError]] = []
        self._live: dict[Task[None], Any] = {}
        self._reports: deque[tuple[Task[None], Socket | BaseException]] = deque()
        self._waiting: Task[Any] | None = None
        self._what = ""

    def run(
        self, addr: Any, targets: list[Address], origins: dict[int, Any], nodelay: bool
    ) -> Socket:
        self._what = show(addr)
        ahead = deque(targets)
        try:
            while ahead or self._live:
                if ahead:
                    family, _, proto, _, sockaddr = ahead.popleft()
                    origin = origins.get(family)
                    task = spawn(self._try, family, proto, sockaddr, origin, nodelay)
                    task.name = f"connect to {show(sockaddr)}"
                    self._live[task] = sockaddr
                self._await_report(ATTEMPT_DELAY if ahead else None)
                while self._reports:
                    task, outcome = self._reports.popleft()
                    sockaddr = self._live.pop(task)
                    if isinstance(outcome, Socket):
                        return outcome
                    if not isinstance(outcome, OSError):
                        raise outcome
                    self._errors.append((sockaddr, outcome))
        finally:
            self._end()
        raise self._summary()

    def told(self) -> str:
        """What became of the attempts so far, for people."""
        if self.secures:
            return ": connected, but the TLS handshake was not done"
        if not self._errors:
            return ""
        return ": " + "; ".join(
            f"{show(sockaddr)}: {os.strerror(error.errno or 0)}" for sockaddr, error in self._errors
        )

    def abandon(self, task: Task[Any]) -> bool:
        self._waiting = None
        return True

    def reason(self, task: Task[Any]) -> str:
        return f"connect to {self._what}"

    def _await_report(self, seconds: float | None) -> None:
        hub = this_hub()
        task = hub.prepare()
        if not self._reports:
            deadline = FAR if seconds is None else hub.timers.after(seconds)
            self._waiting = task
            hub.wait(task, self, deadline)

    def _try(self, family: int, proto: int, sockaddr: Any, origin: Any, nodelay: bool) -> None:
        outcome: Socket | BaseException
        try:
            outcome = _attempt(family, proto, sockaddr, origin, nodelay)
        except Exception as error:
            outcome = error.with_traceback(None)
        me = this_hub().current
        if me not in self._live:
            # It was over when this attempt connected.
            if isinstance(outcome, Socket):
                outcome.close()
            return
        self._reports.append((me, outcome))
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            wake(waiting)

    def _end(self) -> None:
        """The race is over: who still runs is cancelled, and closes its own socket."""
        for _, outcome in self._reports:
            if isinstance(outcome, Socket):
                outcome.close()
        losers, self._live = list(self._live), {}
        for task in losers:
            task.cancel("the race to connect is over")
        with shield():  # they only close their sockets
            for task in losers:
                task.join()

    def _summary(self) -> OSError:
        """All addresses failed."""
        last = self._errors[-1][1]
        return OSError(last.errno, f"no address of {self._what} could be connected{self.told()}")
