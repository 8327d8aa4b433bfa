"""listen: a listening socket, bound the way a server needs it; socketpair; the limit of open files.

Rejected: binding every address of a name (``listen`` returns one socket; the wildcard serves them
all, and who wants two of several addresses listens twice); unlinking a unix path on close (a Socket
knows nothing of paths; ``serve`` removes what it made).
"""

from __future__ import annotations

import errno
import os
import resource
import socket as _stdlib
import stat
from typing import Any

from .dns import resolve
from .naming import show, unix_path
from .socket import Socket

__all__ = ["listen", "raise_nofile_limit", "socketpair"]

_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def listen(
    addr: Any,
    *,
    backlog: int = 4096,
    reuse_address: bool = True,
    reuse_port: bool = False,
    ipv6_only: bool = False,
    nodelay: bool = True,
    fastopen: int = 0,
    defer_accept: int = 0,
    mode: int | None = None,
) -> Socket:
    """A stream socket that listens on ``addr``. Parks only while a name is looked up.

    ``addr`` is ``(host, port)`` for TCP, or a path (str, bytes, PathLike) for a unix socket, with a
    leading NUL for an abstract one. Port 0 takes a free one: ``getsockname`` tells which. Host ""
    is every address of this machine: a dual-stack socket, to which IPv4 peers show as
    ``::ffff:192.0.2.1``, or 0.0.0.0 where there is no IPv6. A name means its first IPv4 address, or
    else its first.

    ``backlog`` is how many connections may wait for accept; the kernel caps it at
    net.core.somaxconn. ``reuse_address`` (SO_REUSEADDR) lets a restarted server have its port at
    once. ``reuse_port`` (SO_REUSEPORT) lets several sockets listen there, among which the kernel
    spreads connections. ``ipv6_only`` keeps IPv4 peers off an IPv6 wildcard. ``nodelay`` is for the
    accepted connections, which inherit TCP_NODELAY. ``fastopen`` is the number of TCP Fast Open
    requests that may be pending (0: off). ``defer_accept`` is for how many seconds the kernel keeps
    a connection to itself until data comes (0: not at all).

    ``mode`` holds for a unix path: the permissions of the socket file, at no moment wider. A socket
    file nobody listens on any more is replaced; any other file is not.

    Raises OSError that names the address and what to do (EADDRINUSE, EACCES, EADDRNOTAVAIL, ...),
    socket.gaierror when there is no such name, OverflowError, TypeError; ValueError for
    "host:port" in one string. man 2 listen, 7 tcp, 7 ipv6, 7 unix; the choice among a name's
    addresses is Go's net.Listen.
    """
    if isinstance(addr, (str, bytes, os.PathLike)):
        return _listen_unix(unix_path(addr), mode, backlog)
    if not isinstance(addr, tuple) or len(addr) not in (2, 4):
        raise TypeError(
            f"listen needs (host, port), or the path of a unix socket as str or bytes, not {addr!r}"
        )
    options = [(_stdlib.SOL_SOCKET, _stdlib.SO_REUSEADDR, int(reuse_address))]
    if reuse_port:
        options.append((_stdlib.SOL_SOCKET, _stdlib.SO_REUSEPORT, 1))
    if nodelay:
        options.append((_stdlib.IPPROTO_TCP, _stdlib.TCP_NODELAY, 1))
    if fastopen:
        options.append((_stdlib.IPPROTO_TCP, _stdlib.TCP_FASTOPEN, fastopen))
    if defer_accept:
        options.append((_stdlib.IPPROTO_TCP, _stdlib.TCP_DEFER_ACCEPT, defer_accept))
    errors = []
    for family, sockaddr in _candidates(addr):
        mine = list(options)
        if family == _stdlib.AF_INET6:
            mine.append((_stdlib.IPPROTO_IPV6, _stdlib.IPV6_V6ONLY, int(ipv6_only)))
        try:
            return _listen_tcp(family, sockaddr, mine, backlog)
        except OSError as error:
            errors.append(error)
            if addr[0] or error.errno not in _NO_IPV6:
                break
    raise _advising(errors[-1], addr)


def socketpair(
    family: int = _stdlib.AF_UNIX, type: int = _stdlib.SOCK_STREAM, proto: int = 0
) -> tuple[Socket, Socket]:
    """Two Sockets connected to each other, as ``socket.socketpair``. Doesn't park.

    Raises OSError (EMFILE, EOPNOTSUPP, ...). man 2 socketpair
    """
    one, other = _stdlib.socketpair(family, type, proto)
    return Socket.from_stdlib(one), Socket.from_stdlib(other)


def raise_nofile_limit() -> int:
    """Let this process have as many fds as it is allowed: the soft limit becomes the hard one.

    Returns the limit now in force (RLIM_INFINITY is -1). A connection costs an fd, and the usual
    soft limit of 1,024 is there for programs that use ``select``. Doesn't park. Raises OSError when
    the system refuses. man 2 getrlimit
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _candidates(addr: tuple[Any, ...]) -> list[tuple[int, Any]]:
    """The address to bind; for the wildcard, IPv6's and then IPv4's."""
    host, port = addr[:2]
    if host in ("", b"", None):
        return [(_stdlib.AF_INET6, ("::", port)), (_stdlib.AF_INET, ("0.0.0.0", port))]
    found = resolve(host, port, 0, _stdlib.SOCK_STREAM, 0, _stdlib.AI_PASSIVE)
    family, _, _, _, sockaddr = min(found, key=lambda each: each[0] != _stdlib.AF_INET)
    if family == _stdlib.AF_INET6 and len(addr) == 4:
        sockaddr = (*sockaddr[:2], *addr[2:])
    return [(family, sockaddr)]


def _listen_tcp(
    family: int, sockaddr: Any, options: list[tuple[int, int, int]], backlog: int
) -> Socket:
    sock = Socket(family, _stdlib.SOCK_STREAM)
    try:
        sock.settimeout(None)
        for option in options:
            sock.setsockopt(*option)
        sock.bind(sockaddr)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen_unix(path: str | bytes, mode: int | None, backlog: int) -> Socket:
    on_disk = bool(path) and path[:1] not in ("\0", b"\0")
    sock = Socket(_stdlib.AF_UNIX, _stdlib.SOCK_STREAM)
    try:
        sock.settimeout(None)
        if on_disk and mode is not None:
            # Before bind makes the file: what it makes has these bits, less the umask's.
            os.fchmod(sock.fileno(), mode)
        try:
            sock.bind(path)
        except OSError as error:
            if not (on_disk and error.errno == errno.EADDRINUSE and _is_stale(path)):
                raise
            os.unlink(path)
            sock.bind(path)
        if on_disk and mode is not None:
            os.chmod(path, mode)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise _advising(error, path) from None
    except BaseException:
        sock.close()
        raise
    return sock


def _is_stale(path: str | bytes) -> bool:
    """Whether ``path`` is a socket file that nobody listens on: its server has died."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
        with _stdlib.socket(_stdlib.AF_UNIX, _stdlib.SOCK_STREAM | _stdlib.SOCK_NONBLOCK) as probe:
            probe.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _advising(error: OSError, addr: Any) -> OSError:
    """``error`` with the address, and what to do about it."""
    if error.errno is None:
        return error
    unix = not isinstance(addr, tuple)
    advice = ""
    if error.errno == errno.EADDRINUSE:
        if not unix:
            advice = (
                f": another socket listens there (ss -ltnp 'sport = {addr[1]}' names it); stop it, "
                "choose another port, or have both sides listen with reuse_port=True"
            )
        elif _is_socket(addr):
            advice = ": another server listens there; stop it or choose another path"
        else:
            advice = ": a file that is no socket has this name; it is left alone"
    elif error.errno == errno.EADDRNOTAVAIL:
        advice = ': no interface of this machine has it ("" listens on all there are)'
    elif error.errno in (errno.EACCES, errno.EPERM):
        if unix:
            advice = ": this user may not create a file there"
        else:
            advice = ": a port below net.ipv4.ip_unprivileged_port_start needs CAP_NET_BIND_SERVICE"
    text = f"{os.strerror(error.errno)}: can't listen on {show(addr)}{advice}"
    return OSError(error.errno, text)


def _is_socket(path: str | bytes) -> bool:
    if path[:1] in ("\0", b"\0"):
        return True
    try:
        return stat.S_ISSOCK(os.lstat(path).st_mode)
    except OSError:
        return False
