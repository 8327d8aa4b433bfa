"""Socket: a ``socket.socket`` whose calls park the task instead of blocking the thread.

A drop-in: same methods, same errors, same timeouts, for TCP, UDP, unix and raw sockets.

Invariants
----------
1. The fd is always O_NONBLOCK; what ``settimeout`` says is this object's own business.
2. Attempt first: a call that can succeed at once makes one syscall and does not park. It is left
   out only when the pollable knows the answer would be EAGAIN (an exception costs 1.5 µs).
3. On a stream, fewer bytes than asked for mean that the kernel's buffer is empty: no further attempt
   until the next edge. On datagram sockets and listeners a success says nothing about the rest.
4. A socket in non-blocking mode (timeout 0) bypasses all that: straight to the syscall.
5. Every operation that did not have to wait is charged to the hub's quota, so a socket that is
   always ready starves nobody.
"""

from __future__ import annotations

import socket as _stdlib
from typing import TYPE_CHECKING, Any

from ..hub.pollable import YES, Pollable
from ..hub.timers import FAR

_C = _stdlib._socket.socket  # type: ignore[attr-defined]
_recv = _C.recv
_send = _C.send
_settimeout = _C.settimeout


class Socket(_stdlib.socket):
    """See the module and ``socket.socket``; every method that may wait parks the task."""

    __slots__ = ("_pollable", "_stream", "_timed", "_timeout")

    def __init__(
        self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None
    ) -> None:
        super().__init__(family, type, proto, fileno)
        _settimeout(self, 0.0)
        self._pollable = Pollable(self.fileno())
        self._stream = super().type == _stdlib.SOCK_STREAM
        self._timed = False
        self._timeout: float | None = None

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        pollable = self._pollable
        readable = pollable.readable
        if readable and (readable == YES or pollable.probe()):
            try:
                data: bytes = _recv(self, bufsize, flags)
            except BlockingIOError:
                pollable.drained()
            else:
                if len(data) < bufsize and self._stream and not flags:
                    pollable.drained()
                return data
        while True:
            pollable.wait_read()
            try:
                data = _recv(self, bufsize, flags)
            except BlockingIOError:
                continue
            if len(data) == bufsize or not self._stream or flags:
                pollable.more_to_read()
            return data

    def send(self, data: Any, flags: int = 0, /) -> int:
        pollable = self._pollable
        while True:
            if pollable.writable:
                try:
                    sent: int = _send(self, data, flags)
                except BlockingIOError:
                    pollable.filled()
                else:
                    hub = pollable.hub
                    hub.quota = quota = hub.quota - 1
                    if quota < 0:
                        pollable.charge()
                    return sent
            pollable.wait_write()

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        sent = self.send(data, flags)
        if sent == len(data):
            return
        view = memoryview(data).cast("B")
        while sent < len(view):
            sent += self.send(view[sent:], flags)

    def accept(self) -> tuple[Socket, Any]:
        pollable = self._pollable
        while True:
            readable = pollable.readable
            if readable and (readable == YES or pollable.probe()):
                try:
                    fd, address = self._accept()
                except BlockingIOError:
                    pollable.drained()
                else:
                    pollable.more_to_read()
                    return Socket(self.family, self.type, self.proto, fileno=fd), address
            pollable.wait_read()

    def _real_close(self) -> None:
        self._pollable.close()
        super()._real_close()
