"""Modes: how an fd gets O_NONBLOCK without harm to whoever shares it.

O_NONBLOCK belongs to the open file, not to the number. What lies behind fd 0, 1 and 2 is most often
shared: with the shell, with this program's parent, and on a terminal with each other. Set there, it
has ``print`` fail with EAGAIN, and outlives a program that is killed. So:

* A pipe, FIFO or terminal behind 0, 1 or 2 is opened anew, through /proc, and only the new file is
  non-blocking. A pty's master is not: opening it makes another pty.
* Where that is refused (a socket, a terminal of another user), and for every other fd, the mode is
  set, and given back at ``close`` and at the program's exit, by the process that set it: a fork's
  end must not make its parent's fd blocking.

Rejected: reading a blocking fd once epoll finds it readable (another reader may be faster, and then
the whole hub waits); preadv2's RWF_NOWAIT (terminals don't know it).
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import os
import select
import stat
from typing import Final
from weakref import WeakSet

STANDARD: Final = (0, 1, 2)
_PTY_MASTER: Final = os.makedev(5, 2)


class Nonblocking:
    """An fd in non-blocking mode: ``fd`` is the number to use, ``original`` what was given."""

    __slots__ = ("__weakref__", "_set_by", "fd", "original")

    def __init__(self, fd: int) -> None:
        self.fd = self.original = fd
        self._set_by = 0
        if not os.get_blocking(fd):
            return
        if fd in STANDARD:
            try:
                self.fd = reopen(fd, blocking=False)
                return
            except OSError:
                pass
        os.set_blocking(fd, False)
        self._set_by = os.getpid()
        _set_here.add(self)

    def restore(self) -> None:
        """Put the mode back to what it was. Twice does no harm."""
        if self._set_by == os.getpid():
            self._set_by = 0
            try:
                os.set_blocking(self.fd, True)
            except OSError as error:
                if error.errno != errno.EBADF:  # closed behind our back
                    raise

    def release(self, closefd: bool) -> None:
        """The end of its use: close what was opened here, and with ``closefd`` the fd itself."""
        self.restore()
        if self.fd != self.original:
            os.close(self.fd)
        if closefd:
            os.close(self.original)


def reopen(fd: int, *, blocking: bool) -> int:
    """A new open file for the pipe, FIFO or terminal behind ``fd``; close-on-exec.

    Doesn't block. Raises OSError: what can't be opened twice, or whose permissions forbid it.
    """
    status = os.fstat(fd)
    kind = status.st_mode
    if not (stat.S_ISFIFO(kind) or (stat.S_ISCHR(kind) and os.isatty(fd))):
        raise OSError(errno.EINVAL, f"fd {fd} is no pipe, FIFO or terminal")
    if status.st_rdev == _PTY_MASTER and stat.S_ISCHR(kind):
        raise OSError(errno.EINVAL, f"fd {fd} is the master of a pty")
    how = fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND)
    new = os.open(f"/proc/self/fd/{fd}", how | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if blocking:
        os.set_blocking(new, True)
    return new


def is_pollable(fd: int) -> bool:
    """Whether epoll takes ``fd``: not regular files, folders, /dev/null. Doesn't block.

    Raises OSError (EBADF).
    """
    kind = os.fstat(fd).st_mode
    if stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISBLK(kind):
        return False
    if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
        return True
    with select.epoll() as epoll:
        try:
            epoll.register(fd)
        except PermissionError:
            return False
    return True


_set_here: WeakSet[Nonblocking] = WeakSet()


@atexit.register
def _restore_all() -> None:
    for each in list(_set_here):
        each.restore()
