"""Turn: whose turn it is in one direction of a TLS connection.

The records of a direction are a sequence: what is taken from the kernel must reach OpenSSL in that
order, and what OpenSSL made must reach the kernel in its own. So one task at a time moves records
in a direction, and the others that want to stand in line, first come, first served.

Invariants
----------
1. All changes are made under ``_lock``; nobody parks or wakes while holding it.
2. ``give`` hands the turn over without freeing it: ``_heir`` has it from then on, so nobody
   overtakes the line. An heir that a wait unwinds with an error passes it on.
3. A deadline or a cancel takes a task out of the line (``abandon``), unless it is the heir
   already.

Rejected: a threading.Lock (it blocks the thread); ``sync``'s Mutex (``net`` must not know it); one
turn for both directions (a parked reader would keep the writers out).
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any

from ...hub.local import this_hub
from ...hub.task import Task
from ...hub.wait import wake

__all__ = ["Turn"]


class Turn:
    """One direction's line, usable from any hub. ``verb`` is for people: ``"receive"``."""

    __slots__ = ("_heir", "_line", "_lock", "_taken", "_verb")

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._lock = Lock()
        self._taken = False
        self._line: OrderedDict[Task[Any], None] | None = None  # most connections never have one
        self._heir: Task[Any] | None = None

    def try_take(self) -> bool:
        """Take the turn if it is free; whether it was. Doesn't park."""
        with self._lock:
            if self._taken:
                return False
            self._taken = True
            return True

    def take(self, deadline: int) -> bool:
        """Take the turn; parks while another has it. False when ``deadline`` (ns) passed first.

        Raises Cancelled.
        """
        hub = this_hub()
        task = hub.prepare()
        with self._lock:
            if not self._taken:
                self._taken = True
                return True
            if self._line is None:
                self._line = OrderedDict()
            self._line[task] = None
        try:
            woken = hub.wait(task, self, deadline)
        except BaseException:
            self.abandon(task)
            if self._heir is task:
                self.give()
            raise
        if woken:
            self._heir = None
        return woken

    def give(self) -> None:
        """The turn is the next one's in line. Doesn't park."""
        with self._lock:
            if self._line:
                self._heir = heir = self._line.popitem(False)[0]
            else:
                self._taken = False
                self._heir = None
                return
        wake(heir)

    def abandon(self, task: Task[Any]) -> bool:
        with self._lock:
            if self._line is None or task not in self._line:
                return False
            del self._line[task]
            return True

    def reason(self, task: Task[Any]) -> str:
        return f"its turn to {self._verb} over TLS"
