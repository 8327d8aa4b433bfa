"""signalfd: signals that wait in an fd instead of interrupting. man 2 signalfd

It takes only what is blocked: a signal that isn't goes to its handler or default action as ever, so
block first, with ``signal.pthread_sigmask(signal.SIG_BLOCK, signums)``, in the main thread before
others start (they inherit the mask; a thread that doesn't block the signal gets it instead). This
module blocks nothing by itself. Children inherit the mask through fork *and* exec: restore it
there.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from collections.abc import Iterable
from ctypes import get_errno
from errno import EAGAIN
from typing import NamedTuple

from greenpump.sys.descriptor import Descriptor
from greenpump.sys.libc import check, quick

__all__ = ["SignalInfo", "Signalfd"]

_BATCH = 16  # one read takes up to this many; most find one or two

# struct signalfd_siginfo: 128 bytes with the same offsets everywhere.
_siginfo = struct.Struct("=IiiIIiIIIIiiQQQQH2xiQI28x")

# sigset_t: 1024 bits as C longs. The kernel reads only the first 64 or 128.
_LONG_BITS = 8 * struct.calcsize("@L")
_sigset = struct.Struct(f"@{1024 // _LONG_BITS}L")

_signalfd = quick("signalfd", ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_read = quick("read", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, restype=ctypes.c_ssize_t)


class SignalInfo(NamedTuple):
    """One received signal, as in struct signalfd_siginfo. Which fields count depends on `code`.

    man 2 signalfd, man 2 sigaction
    """

    signo: int
    errno: int
    code: int  # who sent it: 0 SI_USER (kill), -1 SI_QUEUE (sigqueue), 1 CLD_EXITED, ...
    pid: int  # the sender; for SIGCHLD the child
    uid: int
    fd: int  # SIGIO
    tid: int  # POSIX timers
    band: int  # SIGIO
    overrun: int  # POSIX timers
    trapno: int
    status: int  # SIGCHLD: exit status, or the signal that ended it
    value: int  # sigqueue(3), as an int
    value_pointer: int  # sigqueue(3), as a pointer
    utime: int  # SIGCHLD, in clock ticks
    stime: int  # SIGCHLD, in clock ticks
    addr: int  # faults
    addr_lsb: int  # SIGBUS
    syscall: int  # SIGSYS
    call_addr: int  # SIGSYS
    arch: int  # SIGSYS


class Signalfd(Descriptor):
    """Receives *signums* through an fd, readable while one of them is pending.

    Raises ValueError for a number that is no signal, OSError (EMFILE, ENFILE, ENOMEM). SIGKILL and
    SIGSTOP are accepted and never come.

    Threads: whoever reads gets the signals sent to the process, and those sent to the *reading*
    thread. epoll is stricter: it reports for the process and thread that added the fd.
    Fork: in the child it reads the child's signals, but an epoll shared with the parent still
    reports the parent's. A child should `close` it and make its own.
    """

    __slots__ = ()

    noun = "signalfd"

    def __init__(self, signums: Iterable[int]) -> None:
        flags = os.O_CLOEXEC | os.O_NONBLOCK
        super().__init__(check(_signalfd(-1, _pack_sigset(signums), flags), "signalfd"))

    def set(self, signums: Iterable[int]) -> None:
        """Receive *signums* from now on, and no others. man 2 signalfd

        Doesn't block. Raises ValueError for a number that is no signal, or when closed.
        """
        mask = _pack_sigset(signums)
        # A closed one is -1, with which the kernel would make a new fd.
        if _signalfd(self.fileno(), mask, 0) < 0:
            self._fail("signalfd")

    def read(self) -> list[SignalInfo]:
        """Take all that are pending; an empty list when none is. man 2 signalfd

        Doesn't block. Raises ValueError when closed.
        """
        received: list[SignalInfo] = []
        raw = ctypes.create_string_buffer(_BATCH * _siginfo.size)
        while True:
            n = _read(self.fd, raw, len(raw))
            if n < 0:
                if get_errno() == EAGAIN:
                    return received
                self._fail("read")
            received += map(SignalInfo._make, _siginfo.iter_unpack(raw.raw[:n]))
            if n < len(raw):
                return received


def _pack_sigset(signums: Iterable[int]) -> bytes:
    words = [0] * (1024 // _LONG_BITS)
    valid = signal.valid_signals()
    for signum in signums:
        if signum not in valid:
            raise ValueError(f"no such signal: {signum}")
        word, bit = divmod(signum - 1, _LONG_BITS)
        words[word] |= 1 << bit
    return _sigset.pack(*words)
