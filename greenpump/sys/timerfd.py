"""timerfd: a timer whose expiration is an fd's readiness. man 2 timerfd_create

Times are integer nanoseconds. A zero first expiration *disarms* in the kernel's interface, which is
never what a deadline that has passed means; so anything at or before zero becomes 1 ns, and fires.
"""

from __future__ import annotations

import ctypes
import os
import time

from greenpump.sys.descriptor import Descriptor
from greenpump.sys.libc import check, quick
from greenpump.sys.timespec import pack_itimerspec, unpack_itimerspec

__all__ = ["Timerfd"]

_ABSTIME = 1
_DISARMED = pack_itimerspec(0, 0)

_timerfd_create = quick("timerfd_create", ctypes.c_int, ctypes.c_int)
_timerfd_settime = quick("timerfd_settime")  # hot: no argtypes
_timerfd_gettime = quick("timerfd_gettime", ctypes.c_int, ctypes.c_void_p)
_read = quick("read", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, restype=ctypes.c_ssize_t)


class Timerfd(Descriptor):
    """A timer; its fd is readable from the expiration until it is read or set again.

    *clockid* is ``time.CLOCK_MONOTONIC``, ``CLOCK_REALTIME`` or ``CLOCK_BOOTTIME``, or an ALARM
    clock. Raises OSError (EINVAL, EMFILE, ENFILE, ENOMEM; EPERM for an ALARM clock without the
    capability).

    Threads: any call from any thread. Fork: the child shares the parent's timer; arming or reading
    it in one is seen in the other. A child should `close` it and make its own.
    """

    __slots__ = ()

    noun = "timerfd"

    def __init__(self, clockid: int = time.CLOCK_MONOTONIC) -> None:
        flags = os.O_CLOEXEC | os.O_NONBLOCK
        fd = check(_timerfd_create(clockid, flags), "timerfd_create", f"clock {clockid}")
        super().__init__(fd)

    def arm(self, deadline_ns: int) -> None:
        """Expire once when the clock shows *deadline_ns* nanoseconds; at once if that has passed.

        Replaces what was set, and forgets an expiration not yet read. Doesn't block. Raises
        ValueError when closed, OverflowError for a deadline out of range. man 2 timerfd_settime
        """
        self._set(_ABSTIME, pack_itimerspec(deadline_ns if deadline_ns > 0 else 1, 0))

    def arm_after(self, delay_ns: int, interval_ns: int = 0) -> None:
        """Expire *delay_ns* nanoseconds from now, then each *interval_ns* (0: only once).

        A delay of zero or less expires at once. Otherwise as `arm`; a negative interval raises
        ValueError.
        """
        if interval_ns < 0:
            raise ValueError(f"interval must not be negative: {interval_ns}")
        self._set(0, pack_itimerspec(delay_ns if delay_ns > 0 else 1, interval_ns))

    def disarm(self) -> None:
        """Expire no more, and forget an expiration not yet read. Errors as `arm`. Doesn't block."""
        self._set(0, _DISARMED)

    def _set(self, flags: int, spec: bytes) -> None:
        if _timerfd_settime(self.fd, flags, spec, None) < 0:
            self._fail("timerfd_settime")

    def gettime(self) -> tuple[int, int]:
        """``(remaining_ns, interval_ns)``; remaining is 0 when it isn't armed.

        Doesn't block. man 2 timerfd_gettime Raises ValueError when closed.
        """
        raw = ctypes.create_string_buffer(len(_DISARMED))
        if _timerfd_gettime(self.fd, raw) < 0:
            self._fail("timerfd_gettime")
        return unpack_itimerspec(raw.raw)

    def read(self) -> int:
        """How often it has expired since it was set or last read.

        Reading takes the count. Doesn't block. Raises BlockingIOError when it hasn't expired,
        ValueError when closed.
        """
        count = ctypes.c_uint64()
        if _read(self.fd, ctypes.byref(count), 8) < 0:
            self._fail("read")
        return count.value
