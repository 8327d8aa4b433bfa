"""Socket options by name, for those that servers set every day."""

from __future__ import annotations

import socket as _stdlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

_TCP = _stdlib.IPPROTO_TCP
_UCRED = struct.Struct("=iII")


class Credentials(NamedTuple):
    """Who stands at the other end of a unix socket."""

    pid: int
    uid: int
    gid: int


class Options(_stdlib.socket):
    """nodelay, cork, keepalive and peer_credentials. None of them parks."""

    __slots__ = ()

    @property
    def nodelay(self) -> bool:
        """Whether small segments go out at once instead of waiting for the last one's ACK.

        TCP_NODELAY; it can be set. Raises OSError (EOPNOTSUPP) where it isn't TCP. man 7 tcp
        """
        return bool(self.getsockopt(_TCP, _stdlib.TCP_NODELAY))

    @nodelay.setter
    def nodelay(self, on: bool) -> None:
        self.setsockopt(_TCP, _stdlib.TCP_NODELAY, bool(on))

    @contextmanager
    def cork(self) -> Iterator[None]:
        """``with conn.cork():`` what is sent inside leaves in full segments, the rest at the end.

        For a header and a body, or ``sendfile``, in as few segments as possible. The kernel lets go
        by itself after 200 ms. A block within a corked block changes nothing. TCP_CORK, man 7 tcp;
        raises OSError (EOPNOTSUPP) where it isn't TCP.
        """
        if self.getsockopt(_TCP, _stdlib.TCP_CORK):
            yield
            return
        self.setsockopt(_TCP, _stdlib.TCP_CORK, 1)
        try:
            yield
        finally:
            if self.fileno() >= 0:  # not closed inside
                self.setsockopt(_TCP, _stdlib.TCP_CORK, 0)

    def keepalive(self, idle: int | None, interval: int = 10, count: int = 6) -> None:
        """Have the kernel probe a silent peer, and fail the connection if it doesn't answer.

        The first probe goes out after ``idle`` seconds of silence, the next every ``interval``
        seconds; ``count`` unanswered ones end the connection (reads fail with ETIMEDOUT). None for
        ``idle`` turns it off. SO_KEEPALIVE, man 7 tcp; raises OSError (EINVAL) for seconds out of
        1..32767 or a count out of 1..127.
        """
        if idle is not None:
            self.setsockopt(_TCP, _stdlib.TCP_KEEPIDLE, idle)
            self.setsockopt(_TCP, _stdlib.TCP_KEEPINTVL, interval)
            self.setsockopt(_TCP, _stdlib.TCP_KEEPCNT, count)
        self.setsockopt(_stdlib.SOL_SOCKET, _stdlib.SO_KEEPALIVE, idle is not None)

    def peer_credentials(self) -> Credentials:
        """Process, user and group of a unix socket's peer, as they were when it connected.

        The kernel vouches for them. SO_PEERCRED, man 7 unix. pid 0, uid and gid -1 (4294967295)
        where there is no peer.
        """
        size = _UCRED.size
        found = self.getsockopt(_stdlib.SOL_SOCKET, _stdlib.SO_PEERCRED, size)
        return Credentials(*_UCRED.unpack(found))
