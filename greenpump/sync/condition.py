"""Condition: wait, under a mutex, until another task says that something has changed.

Invariants (those of ``waiters.py``, and)
-----------------------------------------
1. A task stands in line before it releases the mutex, and who notifies holds the mutex: what
   changes after the task looked is never missed.
2. A notify goes to a task that waits, never to one that is gone: a deadline or cancel that comes
   first takes the task out of the line, one that comes later finds the wait successful, and shows
   at the task's next park. If an error unwinds the notified task all the same, the next one in line
   is notified in its place.
3. ``wait`` holds the mutex again when it returns or raises, cancelled or not: it acquires it
   shielded. (But for a hub that closes, on which nothing can park.)

Rejected: moving the notified from this line to the mutex's (saves a switch only where the notifier
goes on to hold the mutex for long, and ties the two classes together); raising a cancel that comes
between the notify and the mutex (asyncio's, which then has to notify somebody else).
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from ..hub.interrupt import calls_user_code
from ..hub.local import this_hub
from ..hub.scope import shield
from ..hub.task import Task
from ..hub.timers import FAR
from .mutex import Mutex
from .waiters import Waiters, wake_all

T = TypeVar("T")


class Condition(Waiters[bool]):
    """``with condition: condition.wait_for(predicate)`` waits for a change that others notify.

    Several conditions may share one ``mutex``; without, it makes its own. ``with condition:``,
    ``acquire`` and ``release`` are the mutex's. Usable from tasks of any hub and from any thread.
    Raises TypeError when ``mutex`` is no Mutex.

    Source: threading.Condition (whose lock is an RLock; a Mutex can't be acquired twice), Go's
    sync.Cond.
    """

    __slots__ = ("_mutex",)

    def __init__(self, mutex: Mutex | None = None) -> None:
        super().__init__()
        if mutex is None:
            mutex = Mutex()
        elif not isinstance(mutex, Mutex):
            raise TypeError(f"a Condition's mutex is a greenpump.Mutex, not {mutex!r}")
        self._mutex = mutex

    def acquire(self, *, timeout: float | None = None) -> bool:
        """The mutex's ``acquire``."""
        return self._mutex.acquire(timeout=timeout)

    def release(self) -> None:
        """The mutex's ``release``."""
        self._mutex.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Release the mutex, park until notified and acquire it again; the caller must hold it.

        False when ``timeout`` seconds passed first. A cancel during the wait raises Cancelled, with
        the mutex acquired again; one that comes after the notify shows at the next park. Look at
        what you waited for again afterwards, or use ``wait_for``: another task may have been
        faster. Raises RuntimeError when the mutex isn't locked, ValueError for a negative timeout.
        """
        return self._wait_until(FAR if timeout is None else this_hub().timers.after(timeout))

    @calls_user_code
    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        """``wait`` until ``predicate()`` is true, or ``timeout`` seconds passed; its last result.

        It is called with the mutex held. Raises as ``wait``.
        """
        deadline = FAR if timeout is None else this_hub().timers.after(timeout)
        in_time = True
        while not (result := predicate()) and in_time:
            in_time = self._wait_until(deadline)
        return result

    def notify(self, n: int = 1) -> None:
        """End the wait of the ``n`` tasks that have waited longest, or of all if there are fewer.

        They go on once they have the mutex, which the caller must hold. Doesn't park. Raises
        RuntimeError when the mutex isn't locked.
        """
        self._check_locked("notify")
        with self._lock:
            notified = [self._grant() for _ in range(min(n, len(self._line)))]
        wake_all(notified)

    def notify_all(self) -> None:
        """``notify`` for all that wait."""
        self.notify(len(self._line))

    def __enter__(self) -> None:
        self._mutex.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._mutex.__exit__(kind, error, traceback)

    def _wait_until(self, deadline: int) -> bool:
        hub = this_hub()
        task = hub.prepare()
        mutex = self._mutex
        self._check_locked("wait for")
        released = False
        try:
            self._stand(task, True)
            mutex.release()
            released = True
            return hub.wait(task, self, deadline) and self._granted.pop(task)
        except BaseException:
            self._leave(task)
            raise
        finally:
            if released:
                _acquire_again(mutex)

    def _check_locked(self, what: str) -> None:
        if not self._mutex.locked():
            raise RuntimeError(f"to {what} {self!r} you must hold its mutex: with condition: ...")

    def _give_back(self, want: bool) -> list[Task[bool]]:
        return [self._grant()] if self._line else []

    def _state(self) -> str:
        return f"of {self._mutex!r}"


def _acquire_again(mutex: Mutex) -> None:
    """Acquire it, whoever is cancelled; an interruption of the program is raised afterwards."""
    interruption: BaseException | None = None
    while not mutex.try_acquire():
        try:
            with shield():
                mutex.acquire()
            break
        except (KeyboardInterrupt, SystemExit) as error:
            interruption = error
    if interruption is not None:
        raise interruption
