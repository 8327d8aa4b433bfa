"""Mutex: one task at a time.

Invariants
----------
1. ``_free`` holds one token while the mutex is unlocked and none while it is locked. Who pops the
   token has locked it: a deque's ``pop`` and ``append`` are atomic, with and without the GIL.
2. While tasks wait, ``release`` hands the mutex to the first of them without unlocking it. So they
   get it in the order of coming and none starves.
3. Nobody waits for a mutex that is unlocked: a waiter enters the line first and tries the token
   afterwards; ``release`` returns the token first and looks at the line afterwards. So one of the
   two sees the other. (Without the GIL that order is kept by the deque's own lock: a ``pop`` that
   came too early for the token came, with all before it, before the ``append``.) Only in that
   moment can somebody else take the token, and overtake the line once.

The token makes the uncontended case a C call in a Python method, without a lock or an allocation.
Rejected: a flag and a lock around it (twice as slow); ``threading.Lock.acquire(False)`` for the
token (it builds a tuple and a bool: half as fast again); a flag that is tested and set between two
bytecodes that "can't be interrupted" (a trace function, or no GIL, and it is).
"""

from __future__ import annotations

from collections import deque
from types import TracebackType

from ..hub.task import Task
from ..hub.wait import wake
from .waiters import Waiters, check_timeout, wake_all


class Mutex(Waiters[bool]):
    """``with mutex:`` one task at a time is in the block; the others wait in the order of coming.

    Usable from tasks of any hub and from any thread. It belongs to nobody: as with Go's, one task
    may lock it and another one release it; and it is not reentrant: a task that acquires it twice
    waits for itself. Several readers at once: ``RWMutex``. A time limit that spans more than the
    acquire is a scope around it (``timeout``, ``move_on_after``).

    Source: Go's sync.Mutex, threading.Lock.
    """

    __slots__ = ("_free",)

    _verb = "acquire"

    def __init__(self) -> None:
        super().__init__()
        self._free: deque[None] = deque((None,), 1)

    def acquire(self, *, timeout: float | None = None) -> bool:
        """Lock it; parks while it is locked. False when ``timeout`` seconds passed first.

        Raises Cancelled, in which case it isn't locked, and ValueError for a negative timeout.
        """
        if timeout is not None:
            check_timeout(timeout)
        try:
            self._free.pop()
        except IndexError:
            pass
        else:
            return True
        return self._wait(True, timeout) is not None

    def try_acquire(self) -> bool:
        """Lock it if it is unlocked; whether it was. Doesn't park."""
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    def release(self) -> None:
        """Unlock it, or hand it to the task that has waited longest. Doesn't park.

        Raises RuntimeError when it isn't locked.
        """
        if self._line or self._free:
            self._hand_over()
        else:
            self._free.append(None)
            if self._line:
                self._look_again()

    def locked(self) -> bool:
        """Whether somebody has it."""
        return not self._free

    def __enter__(self) -> None:
        # ``acquire`` and ``release``, written out: a call within costs half as much again.
        try:
            self._free.pop()
        except IndexError:
            pass
        else:
            return
        self._wait(True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._line or self._free:
            self._hand_over()
        else:
            self._free.append(None)
            if self._line:
                self._look_again()

    def _hand_over(self) -> None:
        """``release`` where tasks wait, or it is a mistake."""
        lock = self._lock
        try:
            lock.acquire()
            if self._free:
                raise RuntimeError(f"{self!r} was released, but nobody had acquired it")
            if not self._line:
                self._free.append(None)  # they have gone meanwhile
                return
            heir = self._grant()
        finally:
            lock.release()
        wake(heir)

    def _look_again(self) -> None:
        """A task came just as ``release`` unlocked it, and may not have seen that."""
        with self._lock:
            let_in = self._let_in()
        wake_all(let_in)

    def _take(self, want: bool) -> bool:
        return bool(self._free) and self.try_acquire()  # an IndexError costs more than a look

    def _give_back(self, want: bool) -> list[Task[bool]]:
        self._free.append(None)
        return self._let_in()

    def _state(self) -> str:
        return "locked" if self.locked() else "unlocked"
