"""Event: a flag that tasks of any hub, and plain threads, can wait for.

Invariants
----------
1. A waiter enters ``_waiting`` first and looks at the flag afterwards; ``set`` raises the flag
   first and takes the waiters afterwards. So one of the two sees the other.
2. Whoever gets a task out of ``_waiting`` (``dict.pop``, atomic with and without the GIL) has
   claimed it: ``set`` to wake it, the waiter itself or its deadline to leave.

No lock, so ``set`` may be called from a signal handler or a finaliser that struck inside ``wait``.

Rejected: a lock around flag and waiters (a handler that calls ``set`` in the thread that holds it
never returns; threading.Event has that fault).
"""

from __future__ import annotations

from typing import Any, Protocol

from ..hub.local import this_hub
from ..hub.task import Task
from ..hub.timers import FAR
from ..hub.wait import wake
from .waiters import check_timeout


class Seat(Protocol):
    """A select's waiter."""

    def offer(self, value: Any) -> bool:
        """Claim the select and wake it."""


class Event:
    """A flag: ``set`` wakes every waiter, ``clear`` lowers it again.

    ``wait`` parks until it is up. Usable from tasks of any hub and from any thread; ``set``, which
    takes no lock, also from signal handlers and finalisers. Source: threading.Event.
    """

    __slots__ = ("__weakref__", "_set", "_waiting")

    def __init__(self) -> None:
        self._set = False
        self._waiting: dict[Task[Any] | Seat, bool] = {}

    def is_set(self) -> bool:
        """Whether the flag is up."""
        return self._set

    def set(self) -> None:
        """Raise the flag and wake every waiter. Doesn't park; callable from anywhere at all."""
        self._set = True
        waiting = self._waiting
        if waiting:
            for waiter in list(waiting):
                if waiting.pop(waiter, False):
                    if type(waiter) is Task:
                        wake(waiter)
                    else:
                        waiter.offer(None)  # type: ignore[union-attr]

    def clear(self) -> None:
        """Lower the flag. Who was woken stays woken. Doesn't park."""
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Park until the flag is up; False when ``timeout`` seconds passed first.

        Raises Cancelled in a cancelled scope, ValueError for a negative timeout.
        """
        if timeout is not None:
            check_timeout(timeout)
        if self._set:
            return True
        hub = this_hub()
        task = hub.prepare()
        deadline = FAR if timeout is None else hub.timers.after(timeout)
        try:
            self._waiting[task] = True
            if self.is_set() and self._waiting.pop(task, False):
                return True
            return hub.wait(task, self, deadline)
        except BaseException:
            self._waiting.pop(task, None)  # a signal handler of the program's raised in between
            raise

    def abandon(self, task: Task[Any]) -> bool:
        return self._waiting.pop(task, False)

    def reason(self, task: Task[Any]) -> str:
        return f"wait for {self!r}"

    def __repr__(self) -> str:
        state = "set" if self._set else f"{len(self._waiting)} waiting"
        return f"<Event at {id(self):#x}: {state}>"
