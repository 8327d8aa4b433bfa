"""What every object of this floor that owns an fd has in common.

Invariants:

- exactly one close per descriptor, whoever calls it: threads, a finaliser in the middle of `close`,
  a signal handler. `list.pop` is the claim, because it is atomic with and without the GIL; testing
  a flag and then storing it is not.
- a closed object's `fd` is -1, which the kernel always refuses. So no call tests for "closed"
  before it runs; its failure does.
- finalisers never touch the errno copy of ctypes (see `libc`): they close with `os.close`.
"""

from __future__ import annotations

import os
import warnings
from types import TracebackType
from typing import ClassVar, NoReturn, TypeVar

from greenpump.sys.libc import check

__all__ = ["Descriptor"]

_Self = TypeVar("_Self", bound="Descriptor")


class Descriptor:
    """Owns one file descriptor, non-blocking and close-on-exec.

    `fd` is its number, -1 once closed. It is a context manager that closes at the end. One that is
    dropped unclosed closes itself with a ResourceWarning.

    After fork the child has its own copy of the number, which it closes for itself alone, but what
    is behind the number is shared with the parent; each class says what that means.
    """

    __slots__ = ("__weakref__", "_owned", "fd")

    noun: ClassVar[str] = "descriptor"

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._owned = [fd]

    def fileno(self) -> int:
        """The fd. Raises ValueError when closed. Doesn't block."""
        if self.fd < 0:
            raise self._closed_error()
        return self.fd

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self.fd < 0

    def close(self) -> None:
        """Close the fd; harmless when already closed. Doesn't block. man 2 close

        A thread that sleeps in a call on it isn't woken. Raises OSError (EBADF) when somebody else
        closed the number behind this object's back.
        """
        try:
            fd = self._owned.pop()
        except IndexError:
            return
        self.fd = -1
        os.close(fd)

    def _fail(self, syscall_name: str, detail: str = "") -> NoReturn:
        """Raise for the call that has just failed: ValueError when closed, else its OSError."""
        if self.fd < 0:
            raise self._closed_error()
        check(-1, syscall_name, detail or f"{self.noun} fd {self.fd}")
        raise AssertionError("unreachable")

    def _closed_error(self) -> ValueError:
        return ValueError(f"I/O operation on closed {self.noun}")

    def __enter__(self: _Self) -> _Self:
        if self.fd < 0:
            raise self._closed_error()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.fd < 0 else f"fd={self.fd}"
        return f"<{type(self).__name__} {state}>"

    def __del__(self) -> None:
        try:
            fd = self._owned.pop()
        except (AttributeError, IndexError):  # never opened, or closed
            return
        try:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=1, source=self)
        finally:
            os.close(fd)
