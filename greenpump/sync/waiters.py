"""Waiters: the line of tasks in front of a mutex, a semaphore, a barrier and their kin.

A primitive is this line and what its tasks wait for: the subclass says when the first may go
(``_take``) and how to undo that (``_give_back``); standing in line, leaving it, deadlines, cancels
and other threads are the same for all and live here.

Invariants
----------
1. ``_line``, ``_granted`` and whatever the subclass counts change only under ``_lock``. Nobody
   parks, wakes or calls anything of the user's while holding it. (What ``Mutex`` may do without
   it, it says itself.)
2. The line is in the order of coming, and only its first may go. Whoever makes room lets in as
   many as there is room for, at once: they don't try again, so nobody overtakes them.
3. To let a task in is to move it from ``_line`` to ``_granted``; after that its wait succeeds.
   ``abandon`` (a deadline, a cancel) takes it out of ``_line`` under the same lock, and says False
   when it is there no longer. So what was handed over is never lost to a cancel.
4. A task that a wait unwinds with an error nevertheless (its hub ends, a signal handler raised in
   the scheduler) gives back what it was granted, and the next in line gets it.
5. When someone leaves without having been let in, those behind may fit: ``_left``.

``prepare`` and ``wait`` (or ``park``) are called from one and the same frame, with the registration
between them: where the first has found stack enough, so does the second, and near the recursion
limit no task is left in a line that it doesn't wait in.

A signal handler or finaliser must not use what is built on this: it may have struck inside the
lock. Let it ``spawn`` a task for that, or call ``Event.set``.

Rejected: waking a waiter to try again (it may lose again, and a stranger overtakes the line); a
deque for the line (a cancelled one is found in linear time); a line made with each object (a mutex
that nobody ever waited for would be twice the size); an object for each wait (the task itself is
the key, and what it wants the value).
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

from ..hub.local import this_hub
from ..hub.task import Task
from ..hub.timers import FAR
from ..hub.wait import wake

if TYPE_CHECKING:
    from collections.abc import Iterable

W = TypeVar("W")

NOBODY_YET: Final[OrderedDict[Any, Any]] = OrderedDict()
"""The line of an object that no task has waited for so far. Nobody ever stands in it."""


class Waiters(Generic[W]):
    """What waits in line, each with what it wants (never None). The base of a primitive."""

    __slots__ = ("__weakref__", "_granted", "_line", "_lock")

    _verb: ClassVar[str] = "wait for"

    def __init__(self) -> None:
        self._lock = Lock()
        self._line: OrderedDict[Task[Any], W] = NOBODY_YET
        self._granted: dict[Task[Any], W] = NOBODY_YET

    # -- what a primitive says of itself; called under the lock ----------------------------------

    def _take(self, want: W) -> bool:
        """Take what the first in line wants, if it may go now; whether it may."""
        return False

    def _give_back(self, want: W) -> list[Task[Any]]:
        """Undo a ``_take`` that came to nothing; whom that lets in."""
        return []

    def _left(self) -> list[Task[Any]]:
        """A task has left the line without what it wanted; whom that lets in."""
        return self._let_in()

    def _state(self) -> str:
        """For people: ``"locked"``."""
        raise NotImplementedError

    # -- the line; under the lock ----------------------------------------------------------------

    def _open_line(self) -> OrderedDict[Task[Any], W]:
        """The line to stand in."""
        if self._line is NOBODY_YET:
            self._granted = {}
            self._line = OrderedDict()
        return self._line

    def _grant(self) -> Task[Any]:
        """Let in the first in line, whom the caller wakes once it has released the lock."""
        task, want = self._line.popitem(False)
        self._granted[task] = want
        return task

    def _let_in(self) -> list[Task[Any]]:
        """Let in, from the first on, all who may go; the caller wakes them, as above."""
        let_in = []
        while self._line:
            if not self._take(next(iter(self._line.values()))):
                break
            let_in.append(self._grant())
        return let_in

    def _stand(self, task: Task[Any], want: W) -> bool:
        """Put ``task`` at the end of the line; True when it is let in at once. Takes the lock."""
        lock = self._lock
        try:
            lock.acquire()
            line = self._open_line()
            line[task] = want
            if len(line) > 1 or not self._take(want):
                return False
            self._grant()
            return True
        finally:
            lock.release()

    # -- waiting ---------------------------------------------------------------------------------

    def _wait(self, want: W, timeout: float | None = None) -> W | None:
        """Stand in line until let in; what was granted, or None when ``timeout`` passed first."""
        hub = this_hub()
        task = hub.prepare()
        deadline = FAR if timeout is None else hub.timers.after(timeout)
        try:
            task.wait = self
            if self._stand(task, want):
                task.wait = None
            elif deadline != FAR or task.scope is not None:
                if not hub.wait(task, self, deadline):
                    return None
            # hub.wait, without what only deadlines and scopes need.
            elif hub.park(task) is not None:
                hub.settle(task, FAR)
            return self._granted.pop(task)
        except BaseException:
            task.wait = task.trouble = None
            self._leave(task)
            raise

    def _leave(self, task: Task[Any]) -> None:
        """``task`` unwinds: take it out of the line, or give back what it was granted."""
        let_in: list[Task[Any]] = []
        with self._lock:
            if self._line.pop(task, None) is not None:
                let_in = self._left()
            elif (granted := self._granted.pop(task, None)) is not None:
                let_in = self._give_back(granted)
        wake_all(let_in)

    def abandon(self, task: Task[Any]) -> bool:
        """Take ``task`` out of the line; False when it was let in already (``hub.wait``'s)."""
        with self._lock:
            if self._line.pop(task, None) is None:
                return False
            let_in = self._left()
        wake_all(let_in)
        return True

    def reason(self, task: Task[Any]) -> str:
        """What ``task`` waits for, for people."""
        return f"{self._verb} {self!r}"

    def __repr__(self) -> str:
        waiting = f", {len(self._line)} waiting" if self._line else ""
        return f"<{type(self).__name__} at {id(self):#x}: {self._state()}{waiting}>"


def check_timeout(seconds: float) -> None:
    """Refuse what is no time, also where there is nothing to wait for and it would do no harm.

    A mistake that shows under contention alone is found late.
    """
    if not seconds >= 0:
        raise ValueError(f"a time in seconds must not be negative or NaN: {seconds!r}")


def wake_all(tasks: Iterable[Task[Any]]) -> None:
    """Wake tasks that were let in, in their order."""
    for task in tasks:
        wake(task)
