"""epoll: which of many fds are ready. man 7 epoll

`Epoll.poll` is the hot call of a scheduler, so:

- no ``argtypes``; plain ints and one ready-made pointer (see `libc`);
- one buffer, made once, decoded by C code into one flat list; no ctypes field is read per event;
- ``timeout_ms == 0`` can't sleep, so it keeps the GIL;
- an error is never recognised by its errno: whatever failed is asked again without waiting. An
  interruption has passed by then and a real error repeats itself. (The handler of the interrupting
  signal has already run, and if a call of its own failed, errno is that call's.)
- "closed" is found out by failing, not by testing first.

``add``, ``modify`` and ``remove`` build their event in a fresh bytes object, never in a shared
buffer, so they may be called from any thread.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import time
from ctypes import get_errno
from errno import ENOSYS

from greenpump.sys.descriptor import Descriptor
from greenpump.sys.epoll_event import layout_for
from greenpump.sys.libc import check, exists, quick, sleeping
from greenpump.sys.timespec import NANOSECONDS, pack_timespec

__all__ = [
    "EPOLLERR",
    "EPOLLET",
    "EPOLLEXCLUSIVE",
    "EPOLLHUP",
    "EPOLLIN",
    "EPOLLMSG",
    "EPOLLONESHOT",
    "EPOLLOUT",
    "EPOLLPRI",
    "EPOLLRDBAND",
    "EPOLLRDHUP",
    "EPOLLRDNORM",
    "EPOLLWAKEUP",
    "EPOLLWRBAND",
    "EPOLLWRNORM",
    "Epoll",
]

EPOLLIN = 0x001
EPOLLPRI = 0x002
EPOLLOUT = 0x004
EPOLLERR = 0x008  # always reported, asked for or not
EPOLLHUP = 0x010  # always reported, asked for or not
EPOLLRDNORM = 0x040
EPOLLRDBAND = 0x080
EPOLLWRNORM = 0x100
EPOLLWRBAND = 0x200
EPOLLMSG = 0x400
EPOLLRDHUP = 0x2000
EPOLLEXCLUSIVE = 1 << 28
EPOLLWAKEUP = 1 << 29
EPOLLONESHOT = 1 << 30
EPOLLET = 1 << 31

_ADD, _DEL, _MOD = 1, 2, 3
_NAMES = {_ADD: "epoll_ctl ADD", _DEL: "epoll_ctl DEL", _MOD: "epoll_ctl MOD"}
_INT_MAX = 0x7FFFFFFF
_LAYOUT = layout_for(os.uname().machine, sys.byteorder)

_epoll_create1 = quick("epoll_create1", ctypes.c_int)
_epoll_ctl = quick("epoll_ctl")
_epoll_wait = sleeping("epoll_wait")
_epoll_wait_now = quick("epoll_wait")
_epoll_pwait2 = sleeping("epoll_pwait2") if exists("epoll_pwait2") else None


class Epoll(Descriptor):
    """An epoll instance. man 2 epoll_create1

    *maxevents* is how many events one `poll` or `wait` returns at most; the next returns the rest.
    Bigger isn't faster: the events' working set should stay in the cache.

    Raises OSError (EMFILE, ENFILE, ENOMEM), ValueError when *maxevents* isn't positive.

    Threads: one at a time in `poll` (it has one buffer); all else from any thread at any time.
    Fork: the child shares the parent's instance. What it adds or removes, it adds or removes for
    the parent too, so all a child should do with it is `close`, and make its own.
    """

    __slots__ = ("_buffer", "_flatten", "_one", "_stride", "_words", "maxevents")

    noun = "epoll"

    def __init__(self, maxevents: int = 256) -> None:
        if maxevents <= 0:
            raise ValueError(f"maxevents must be positive: {maxevents}")
        memory = ctypes.create_string_buffer(maxevents * _LAYOUT.size)
        self.maxevents = maxevents
        self._buffer = ctypes.byref(memory)
        self._stride = _LAYOUT.words
        self._words = memoryview(memory).cast("B").cast("I")
        self._one = self._words[: self._stride]
        self._flatten = _LAYOUT.flatten
        super().__init__(check(_epoll_create1(os.O_CLOEXEC), "epoll_create1"))

    def add(self, fd: int, events: int, data: int | None = None) -> None:
        """Watch *fd* for *events*, an OR of ``EPOLL*``. man 2 epoll_ctl

        *data* is an unsigned 64-bit number handed back with each event; the fd when omitted.
        Doesn't block. Raises FileExistsError when it is watched already, PermissionError when the
        kernel can't watch such a file (regular files, directories), OSError (EBADF, EINVAL, ELOOP,
        ENOMEM, ENOSPC), ValueError when closed or a number is out of range.
        """
        self._control(_ADD, fd, events, fd if data is None else data)

    def modify(self, fd: int, events: int, data: int | None = None) -> None:
        """Replace the *events* and *data* of a watched fd; also re-arms EPOLLONESHOT and EPOLLET.

        Parameters as for `add`. Doesn't block. Raises FileNotFoundError when it isn't watched,
        OSError (EBADF, EINVAL), ValueError as `add`. man 2 epoll_ctl
        """
        self._control(_MOD, fd, events, fd if data is None else data)

    def remove(self, fd: int) -> None:
        """Stop watching *fd*. Do it before closing the fd. man 2 epoll_ctl

        The kernel watches the open file, not the number: if a dup or a forked child still holds the
        file, closing the number leaves it watched and nothing can remove it any more.

        Doesn't block. Events already fetched by `poll` stay fetched. Raises FileNotFoundError when
        it isn't watched, OSError (EBADF), ValueError when closed.
        """
        self._control(_DEL, fd, 0, 0)

    def _control(self, operation: int, fd: int, events: int, data: int) -> None:
        # ctypes would cut a wide int down to some other fd without a word.
        if not 0 <= fd <= _INT_MAX:
            raise ValueError(f"not a file descriptor: {fd}")
        if _epoll_ctl(self.fd, operation, fd, _LAYOUT.pack(events, data)) < 0:
            self._fail(_NAMES[operation], f"fd {fd}")

    def poll(self, timeout_ms: int) -> list[int]:
        """Wait for events; the fast form, for schedulers. man 2 epoll_wait

        *timeout_ms* is in milliseconds; 0 doesn't wait, negative waits without end.

        Returns a flat list of words, three an event: ``events, data_low32, data_high32``. Walk it:
        ``it = iter(flat); for events, low, high in zip(it, it, it)``. It is empty when time ran
        out, when a signal came, and after 24.8 days at most.

        Blocks this thread (the GIL is released) up to *timeout_ms*. Raises ValueError when closed,
        OSError (EBADF when the number was closed behind its back). A signal handler that raises
        loses the events of the call it interrupts.
        """
        if timeout_ms == 0:
            n = _epoll_wait_now(self.fd, self._buffer, self.maxevents, 0)
        else:
            n = _epoll_wait(
                self.fd,
                self._buffer,
                self.maxevents,
                timeout_ms if timeout_ms < _INT_MAX else _INT_MAX,
            )
        if n < 0:
            n = _epoll_wait_now(self.fd, self._buffer, self.maxevents, 0)
            if n < 0:
                self._fail("epoll_wait")
        if n == 0:
            return []
        words = self._one if n == 1 else self._words[: n * self._stride]
        flat: list[int] = words.tolist()
        return flat if self._flatten is None else self._flatten(flat)

    def wait(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """Wait for events; the friendly form. man 2 epoll_wait

        *timeout* is in seconds, to the nanosecond where the system has epoll_pwait2 (glibc 2.35,
        Linux 5.11) and rounded up to a millisecond elsewhere; None waits without end, 0 not at all.

        Returns a list of ``(events, data)``, empty only when time ran out: when a signal's handler
        returns, waiting goes on for the rest of the time. Any number of threads may wait at once.

        Blocks this thread (the GIL is released) up to *timeout*. Raises ValueError when closed or
        *timeout* is negative, OSError (EBADF) as `poll`.
        """
        deadline = None if timeout is None else time.monotonic_ns() + _nanoseconds(timeout)
        memory = ctypes.create_string_buffer(self.maxevents * _LAYOUT.size)
        while True:
            left = None if deadline is None else max(0, deadline - time.monotonic_ns())
            n = self._sleep(memory, left)
            if n < 0:  # as in poll: ask again, without waiting
                n = _epoll_wait_now(self.fd, memory, self.maxevents, 0)
                if n < 0:
                    self._fail("epoll_wait")
            if n > 0:
                return _LAYOUT.unpack(memoryview(memory)[: n * _LAYOUT.size])
            if deadline is not None and time.monotonic_ns() >= deadline:
                return []

    def _sleep(self, memory: ctypes.Array[ctypes.c_char], left: int | None) -> int:
        """One epoll_wait of at most *left* nanoseconds."""
        global _epoll_pwait2
        if left is None:
            return _epoll_wait(self.fd, memory, self.maxevents, -1)
        if _epoll_pwait2 is not None:
            n = _epoll_pwait2(self.fd, memory, self.maxevents, pack_timespec(left), None)
            if n >= 0 or get_errno() != ENOSYS:
                return n
            _epoll_pwait2 = None  # a libc newer than its kernel
        return _epoll_wait(self.fd, memory, self.maxevents, min(-(-left // 1_000_000), _INT_MAX))


def _nanoseconds(timeout: float) -> int:
    if not timeout >= 0:  # also refuses NaN
        raise ValueError(f"timeout must not be negative: {timeout}")
    return math.ceil(timeout * NANOSECONDS)  # never early
