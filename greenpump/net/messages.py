"""The calls that carry an address or ancillary data: datagrams, and fds over unix sockets.

``recvfrom`` and ``sendto`` go straight to the C call when it is likely to succeed at once, as in
the middle of a burst: ``readable`` is YES then and stays so until EAGAIN. All else takes the same
way, ``_read`` and ``_write``.

What is ours to mind beside waiting:

* an iterator handed in is read once, while a call may take several attempts;
* ``MSG_WAITALL`` is void on a non-blocking fd, so waiting for all is done here;
* a name in an address would be looked up by the C code, which blocks the thread (``addresses.py``);
* a unix datagram that finds the receiver's queue full gets EAGAIN although the socket stays
  "writable" (the queue isn't its own), and unless the two are connected nothing tells when there is
  room. Such a send is tried anew after a pause.
"""

from __future__ import annotations

import _socket
import socket as _stdlib
from collections.abc import Iterable
from operator import index
from typing import Any

from ..hub.pollable import WRITE, YES
from ..hub.timers import FAR
from .addresses import is_numeric, numeric
from .base import FIRST_PAUSE, LONGEST_PAUSE, BaseSocket, _family, _type

_C = _socket.socket
_recvfrom = _C.recvfrom
_recvfrom_into = _C.recvfrom_into
_recvmsg = _C.recvmsg
_recvmsg_into = _C.recvmsg_into
_sendto = _C.sendto
_sendmsg = _C.sendmsg

# Plain ints: the operators of enum.Flag are written in Python, 60 bytecodes each.
DONTWAIT = int(_stdlib.MSG_DONTWAIT)
WAITALL = int(_stdlib.MSG_WAITALL)
NEVER_WAITS = DONTWAIT | int(_stdlib.MSG_OOB) | int(getattr(_stdlib, "MSG_ERRQUEUE", 0x2000))
"""Flags with which a receive answers at once, on a blocking socket too."""


class Messages(BaseSocket):
    """recvfrom, recvmsg, sendto, sendmsg and their kin: socket.socket's, parking the task."""

    __slots__ = ()

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """Receive a datagram of up to ``bufsize`` bytes and its sender's address; parks."""
        pollable = self._pollable
        if pollable.readable == YES and self._limits is None and not flags:
            hub = pollable.hub
            hub.quota = quota = hub.quota - 1
            if quota < 0:
                pollable.charge()
            try:
                return _recvfrom(self, bufsize)
            except BlockingIOError:
                pollable.drained()
                return self._read_later(_recvfrom, FAR, bufsize)
        bufsize = index(bufsize)
        if bufsize < 0 or flags & NEVER_WAITS:
            return _recvfrom(self, bufsize, flags)
        if flags & WAITALL and self._is_stream():
            return self.recv(bufsize, flags), None
        return self._read(_recvfrom, None, bufsize, flags)

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """``recvfrom`` into a writable buffer; 0 for ``nbytes`` means its size. Parks."""
        if flags & NEVER_WAITS or not _fits(buffer, nbytes):
            return _recvfrom_into(self, buffer, nbytes, flags)
        return self._read(_recvfrom_into, None, buffer, nbytes, flags)

    def recvmsg(
        self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        """Receive data and ancillary data, such as fds; parks. man 2 recvmsg"""
        bufsize = index(bufsize)
        if ancbufsize:
            self._records = self._bulky = True
            self._classify()
        if bufsize < 0 or index(ancbufsize) < 0 or flags & NEVER_WAITS:
            return _recvmsg(self, bufsize, ancbufsize, flags)
        data, ancillary, said, address = self._read(_recvmsg, None, bufsize, ancbufsize, flags)
        missing = bufsize - len(data)
        if flags & WAITALL and missing and data and not ancillary and self._is_stream():
            data += self.recv(missing, flags)
        return data, ancillary, said, address

    def recvmsg_into(
        self, buffers: Iterable[Any], ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[int, list[tuple[int, int, bytes]], int, Any]:
        """``recvmsg`` into writable buffers, one after the other; parks. man 2 recvmsg

        ``MSG_WAITALL`` has no effect.
        """
        buffers = list(buffers)
        if ancbufsize:
            self._records = self._bulky = True
            self._classify()
        if index(ancbufsize) < 0 or flags & NEVER_WAITS or not all(map(_fits, buffers)):
            return _recvmsg_into(self, buffers, ancbufsize, flags)
        return self._read(_recvmsg_into, None, buffers, ancbufsize, flags)

    def sendto(self, data: Any, *args: Any) -> int:
        """``sendto(data, address)`` or ``sendto(data, flags, address)``; parks. man 2 sendto"""
        pollable = self._pollable
        if len(args) == 1 and pollable.writable and self._eager and is_numeric(self, args[0]):
            hub = pollable.hub
            hub.quota = quota = hub.quota - 1
            if quota < 0:
                pollable.charge()
            try:
                return _sendto(self, data, args[0])
            except BlockingIOError:
                pollable.filled()
        if len(args) not in (1, 2):
            return _sendto(self, data, *args)
        memoryview(data).release()  # the stdlib's error for what is no buffer, before any wait
        *given, address = args
        flags = index(given[0]) if given else 0
        return self._send_message(_sendto, flags, address, data, flags, numeric(self, address))

    def sendmsg(
        self,
        buffers: Iterable[Any],
        ancdata: Iterable[tuple[int, int, Any]] = (),
        flags: int = 0,
        address: Any = None,
        /,
    ) -> int:
        """Send the buffers as one message, with ancillary data such as fds; parks. man 2 sendmsg

        On a stream it may send a part; returns the number of bytes sent.
        """
        buffers = list(buffers)
        ancdata = list(ancdata)
        for buffer in buffers:
            memoryview(buffer).release()
        if address is None:
            return self._send_message(_sendmsg, flags, None, buffers, ancdata, flags)
        target = numeric(self, address)
        return self._send_message(_sendmsg, flags, address, buffers, ancdata, flags, target)

    def _send_message(self, call: Any, flags: int, address: Any, *args: Any) -> int:
        sent: int
        if flags & DONTWAIT:
            sent = call(self, *args)
        elif address is None or _family(self) != _stdlib.AF_UNIX or self.gettimeout() == 0:
            sent = self._write(call, None, *args)
        else:
            sent = self._send_stubbornly(call, *args)
        return sent

    def _send_stubbornly(self, call: Any, *args: Any) -> int:
        """To a unix datagram address: no edge tells when its queue has room."""
        until = self._until(WRITE, call.__name__)
        pollable = self._pollable
        pause = FIRST_PAUSE
        while True:
            self._charge(pollable)
            try:
                sent: int = call(self, *args)
            except BlockingIOError:
                # Not epoll: it reports OUT whenever the datagram that found no room is freed again.
                self._pause(WRITE, until, pause, call.__name__)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                return sent

    def _is_stream(self) -> bool:
        return _type(self) == _stdlib.SOCK_STREAM


def _fits(buffer: Any, nbytes: int = 0) -> bool:
    """Whether a receive into ``buffer`` is in order; if not the C code says what is wrong."""
    with memoryview(buffer) as view:
        return not view.readonly and 0 <= index(nbytes) <= view.nbytes
