"""Semaphore: so many at a time, each with a weight.

Invariants (those of ``waiters.py``, and)
-----------------------------------------
1. ``_available`` and the weights of those inside add up to ``_limit``.
2. Who comes while others wait stands behind them, also when it would fit: a heavy one is not
   starved by light ones. (As golang.org/x/sync/semaphore.)

Rejected: a semaphore that any ``release`` makes larger, threading.Semaphore's: it hides the release
too many, which threading.BoundedSemaphore was added for. What signals rather than limits is a
Channel, a Condition or a WaitGroup here.
"""

from __future__ import annotations

from operator import index
from types import TracebackType

from ..hub.task import Task
from .waiters import Waiters, check_timeout, wake_all


class Semaphore(Waiters[int]):
    """``with semaphore:`` at most ``limit`` tasks are in the block; others wait in turn.

    ``acquire(n)`` takes n of them at once: a weight, say the megabytes that a job needs. Usable
    from tasks of any hub and from any thread. Raises ValueError for a limit below 1.

    Source: golang.org/x/sync/semaphore, threading.BoundedSemaphore.
    """

    __slots__ = ("_available", "_limit")

    _verb = "acquire"

    def __init__(self, limit: int = 1) -> None:
        super().__init__()
        limit = index(limit)
        if limit < 1:
            raise ValueError(f"a semaphore's limit must be at least 1: {limit}")
        self._limit = self._available = limit

    @property
    def limit(self) -> int:
        """The weight that fits in at once."""
        return self._limit

    @property
    def available(self) -> int:
        """How much of the limit nobody has at present."""
        return self._available

    def acquire(self, n: int = 1, *, timeout: float | None = None) -> bool:
        """Take ``n``; parks until they are available. False when ``timeout`` seconds passed first.

        Raises Cancelled, in which case nothing was taken; ValueError for a negative timeout, and
        when ``n`` is below 1 or more than there ever can be.
        """
        if n != 1:
            self._check(n)
        if timeout is not None:
            check_timeout(timeout)
        lock = self._lock
        try:
            lock.acquire()
            if self._available >= n and not self._line:
                self._available -= n
                return True
        finally:
            lock.release()
        return self._wait(n, timeout) is not None

    def try_acquire(self, n: int = 1) -> bool:
        """Take ``n`` if they are available and nobody waits; whether it did. Doesn't park.

        Raises ValueError as ``acquire``.
        """
        self._check(n)
        with self._lock:
            return not self._line and self._take(n)

    def release(self, n: int = 1) -> None:
        """Give ``n`` back; the first in line go on if it is enough for them. Doesn't park.

        Raises ValueError when that is more than were acquired, or below 1.
        """
        if n != 1:
            self._check(n)
        lock = self._lock
        try:
            lock.acquire()
            if self._available + n > self._limit:
                raise ValueError(f"{n} released that nobody had acquired: {self!r}")
            self._available += n
            let_in = self._let_in() if self._line else None
        finally:
            lock.release()
        if let_in:
            wake_all(let_in)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _check(self, n: int) -> None:
        if not 1 <= index(n) <= self._limit:
            raise ValueError(
                f"a weight must be from 1 to the semaphore's limit, {self._limit}: {n!r}"
                + (" (not to wait, call try_acquire)" if n is False else "")
            )

    def _take(self, want: int) -> bool:
        if self._available < want:
            return False
        self._available -= want
        return True

    def _give_back(self, want: int) -> list[Task[int]]:
        self._available += want
        return self._let_in()

    def _state(self) -> str:
        return f"{self._available} of {self._limit} available"
