"""pidfd: a process that is an fd, readable once it has ended. man 2 pidfd_open

Unlike a pid the fd can't come to mean another process. glibc has these calls from 2.36 and musl has
not; where they are missing they go through syscall(2), under numbers that are the same on every
architecture CPython supports.
"""

from __future__ import annotations

import ctypes
import os

from greenpump.sys.descriptor import Descriptor
from greenpump.sys.libc import CFunction, check, exists, quick

__all__ = ["Pidfd", "pidfd_open", "pidfd_send_signal"]


def _bind(name: str, number: int, *argtypes: type) -> CFunction:
    """The libc's wrapper *name*, or the system call *number* where it has none."""
    if exists(name):
        return quick(name, *argtypes)
    # Declared as longs to the last one: a variadic function gets them in full registers.
    syscall = quick("syscall", ctypes.c_long, *argtypes, restype=ctypes.c_long)
    return lambda *args: syscall(number, *args)


_OPEN = (ctypes.c_int, ctypes.c_uint)
_SEND_SIGNAL = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)

_pidfd_open = _bind("pidfd_open", 434, *_OPEN)
_pidfd_send_signal = _bind("pidfd_send_signal", 424, *_SEND_SIGNAL)


def pidfd_open(pid: int, flags: int = 0) -> int:
    """Open a pidfd for process *pid* and return the fd, close-on-exec. man 2 pidfd_open

    *flags* is 0 or PIDFD_NONBLOCK (O_NONBLOCK, Linux 5.10). Doesn't block. Raises
    ProcessLookupError when there is no such process (a child that ended and wasn't waited for still
    is one), OSError (EINVAL, EMFILE, ENFILE; ENOSYS before Linux 5.3).
    """
    return check(_pidfd_open(pid, flags), "pidfd_open", f"pid {pid}")


def pidfd_send_signal(fd: int, signum: int) -> None:
    """Send signal *signum* to the process behind pidfd *fd*; 0 only tests. man 2 pidfd_send_signal

    Doesn't block. Raises ProcessLookupError when it has ended and been waited for, PermissionError,
    OSError (EBADF when *fd* is no pidfd, EINVAL when *signum* is no signal).
    """
    check(_pidfd_send_signal(fd, signum, None, 0), "pidfd_send_signal", f"fd {fd}, signal {signum}")


class Pidfd(Descriptor):
    """A process, by an fd that is readable from its end on, and hung up once it was waited for.

    Make one for a child before anything waits for it; errors as `pidfd_open`.

    Threads: any call from any thread. Fork: the child's copy means the same process, which isn't a
    child of the child: `try_wait` raises ChildProcessError there, `send_signal` works.
    """

    __slots__ = ("pid",)

    noun = "pidfd"

    def __init__(self, pid: int) -> None:
        super().__init__(pidfd_open(pid))
        self.pid = pid
        # Not PIDFD_NONBLOCK, which Linux before 5.10 refuses; only waitid heeds it anyway.
        os.set_blocking(self.fd, False)

    def send_signal(self, signum: int) -> None:
        """Send it *signum*; errors as `pidfd_send_signal`, and ValueError when closed."""
        pidfd_send_signal(self.fileno(), signum)

    def try_wait(self) -> os.waitid_result | None:
        """Take the child's end: its ``os.waitid_result``, or None while it runs. man 2 waitid

        Doesn't block. Raises ChildProcessError when it is no child of this process or was waited
        for already, ValueError when closed.
        """
        return os.waitid(os.P_PIDFD, self.fileno(), os.WEXITED | os.WNOHANG)
