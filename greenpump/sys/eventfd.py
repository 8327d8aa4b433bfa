"""eventfd: a counter that is an fd; the cheapest way to wake an epoll. man 2 eventfd"""

from __future__ import annotations

import ctypes
import os

from greenpump.sys.descriptor import Descriptor
from greenpump.sys.libc import check, quick

__all__ = ["Eventfd"]

_SEMAPHORE = 1
_MAX = (1 << 64) - 2
_ONE = ctypes.c_uint64.from_param(1)  # wider than the C int that a plain int would be passed as

_eventfd = quick("eventfd", ctypes.c_uint, ctypes.c_int)
_eventfd_write = quick("eventfd_write")  # hot: no argtypes
_eventfd_read = quick("eventfd_read", ctypes.c_int, ctypes.c_void_p)


class Eventfd(Descriptor):
    """A counter of 64 bits whose fd is readable while the count isn't zero.

    *initial* is the first count (32 bits). With *semaphore* each `read` takes one; without, all.
    Raises OSError (EMFILE, ENFILE, ENOMEM), ValueError when *initial* is out of range.

    Threads: any call from any thread. Fork: the counter is shared; a write in the child wakes the
    parent and the other way round. A child should `close` it and make its own.
    """

    __slots__ = ()

    noun = "eventfd"

    def __init__(self, initial: int = 0, semaphore: bool = False) -> None:
        if not 0 <= initial <= 0xFFFFFFFF:
            raise ValueError(f"initial count out of range: {initial}")
        flags = os.O_CLOEXEC | os.O_NONBLOCK | (_SEMAPHORE if semaphore else 0)
        super().__init__(check(_eventfd(initial, flags), "eventfd"))

    def write(self, value: int = 1) -> None:
        """Add *value* to the count, which makes the fd readable. man 3 eventfd_write

        Never blocks, so it may be called from any thread, signal handler or finaliser. Raises
        BlockingIOError when the count has no room for it (for a wake-up that is as good as done),
        ValueError when closed or *value* isn't within 0 to 2**64 - 2.
        """
        if value == 1:
            number = _ONE
        elif 0 <= value <= _MAX:
            number = ctypes.c_uint64.from_param(value)
        else:
            raise ValueError(f"value out of range: {value}")
        if _eventfd_write(self.fd, number) < 0:
            self._fail("eventfd_write")

    def read(self) -> int:
        """Take the count and return it (a semaphore: take and return 1). man 3 eventfd_read

        Doesn't block. Raises BlockingIOError when the count is zero, ValueError when closed.
        """
        count = ctypes.c_uint64()
        if _eventfd_read(self.fd, ctypes.byref(count)) < 0:
            self._fail("eventfd_read")
        return count.value
