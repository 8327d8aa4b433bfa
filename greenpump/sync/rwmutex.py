"""RWMutex: many readers, or one writer.

Invariants (those of ``waiters.py``, and)
-----------------------------------------
1. ``_writing`` and ``_readers > 0`` exclude each other.
2. Readers and writers stand in one line. Who comes while others wait stands behind them: a waiting
   writer holds new readers back, and so neither side starves the other.
3. When it gets free, the first in line goes in; if that is a reader, so do all readers between it
   and the next writer.

Rejected: letting in at each unlock all readers that wait, those behind the next writer too (Go's):
the order of coming is easier to reason about, and readers that came before that writer don't wait
longer for it. Upgrading a reader to a writer: two that try it wait for each other for ever.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal, TypeAlias

from ..hub.task import Task
from .waiters import Waiters, check_timeout, wake_all

Want: TypeAlias = Literal["read", "write"]


class RWMutex(Waiters[Want]):
    """``with rw.read():`` beside other readers; ``with rw.write():`` alone.

    Both wait in the order of coming, so a waiting writer holds new readers back. Hence a task that
    reads must not begin to read again inside the block (a writer may have come between the two),
    nor write: it would wait for itself. Usable from tasks of any hub and from any thread; as with
    Mutex, another task than the one that acquired it may release it.

    Source: Go's sync.RWMutex.
    """

    __slots__ = ("_readers", "_writing")

    def __init__(self) -> None:
        super().__init__()
        self._readers = 0
        self._writing = False

    def read(self) -> Reading:
        """``with rw.read():`` parks while somebody writes or waits to. Raises Cancelled."""
        return Reading(self)

    def write(self) -> Writing:
        """``with rw.write():`` parks while anybody reads or writes. Raises Cancelled."""
        return Writing(self)

    def acquire_read(self, *, timeout: float | None = None) -> bool:
        """Begin to read; parks while somebody writes or waits to. False after ``timeout`` seconds.

        Raises Cancelled, in which case it was not acquired, and ValueError for a negative timeout.
        """
        if timeout is not None:
            check_timeout(timeout)
        return self.try_acquire_read() or self._wait("read", timeout) is not None

    def acquire_write(self, *, timeout: float | None = None) -> bool:
        """Begin to write; parks while anybody reads or writes. False after ``timeout`` seconds.

        Raises Cancelled, in which case it was not acquired, and ValueError for a negative timeout.
        """
        if timeout is not None:
            check_timeout(timeout)
        return self.try_acquire_write() or self._wait("write", timeout) is not None

    def try_acquire_read(self) -> bool:
        """Begin to read if that needs no waiting; whether it did. Doesn't park."""
        lock = self._lock
        try:
            lock.acquire()
            if self._writing or self._line:
                return False
            self._readers += 1
            return True
        finally:
            lock.release()

    def try_acquire_write(self) -> bool:
        """Begin to write if that needs no waiting; whether it did. Doesn't park."""
        lock = self._lock
        try:
            lock.acquire()
            if self._readers or self._writing or self._line:
                return False
            self._writing = True
            return True
        finally:
            lock.release()

    def release_read(self) -> None:
        """End reading; the last reader lets in who waits. Doesn't park.

        Raises RuntimeError when nobody reads.
        """
        lock = self._lock
        try:
            lock.acquire()
            if not self._readers:
                raise RuntimeError(f"release_read of {self!r}, which nobody reads")
            self._readers -= 1
            let_in = self._let_in() if self._line else None
        finally:
            lock.release()
        if let_in:
            wake_all(let_in)

    def release_write(self) -> None:
        """End writing and let in who waits. Doesn't park.

        Raises RuntimeError when nobody writes.
        """
        lock = self._lock
        try:
            lock.acquire()
            if not self._writing:
                raise RuntimeError(f"release_write of {self!r}, which nobody writes")
            self._writing = False
            let_in = self._let_in() if self._line else None
        finally:
            lock.release()
        if let_in:
            wake_all(let_in)

    def reason(self, task: Task[Any]) -> str:
        return f"{self._line.get(task, 'acquire')} {self!r}"

    def _take(self, want: Want) -> bool:
        if self._writing or (want == "write" and self._readers):
            return False
        if want == "read":
            self._readers += 1
        else:
            self._writing = True
        return True

    def _give_back(self, want: Want) -> list[Task[Any]]:
        if want == "read":
            self._readers -= 1
        else:
            self._writing = False
        return self._let_in()

    def _state(self) -> str:
        if self._writing:
            return "one writes"
        return f"{self._readers} read" if self._readers else "unlocked"


class Reading:
    """The with-block of a reader."""

    __slots__ = ("_rw",)

    def __init__(self, rw: RWMutex) -> None:
        self._rw = rw

    def __enter__(self) -> None:
        self._rw.acquire_read()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._rw.release_read()


class Writing:
    """The with-block of a writer."""

    __slots__ = ("_rw",)

    def __init__(self, rw: RWMutex) -> None:
        self._rw = rw

    def __enter__(self) -> None:
        self._rw.acquire_write()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._rw.release_write()
