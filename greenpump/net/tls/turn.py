"""Turn: whose turn it is in one direction of a TLS connection.

The records of a direction are a sequence: what is taken from the kernel must reach OpenSSL in that
order, and what OpenSSL made must reach the kernel in its own. So one task at a time moves records
in a direction, and the others that want to stand in line, first come, first served.

Invariants
----------
1. ``free`` holds one token while it is nobody's turn. Who pops the token has the turn: a deque's
   ``pop`` and ``append`` are atomic, with and without the GIL. The hot paths do that themselves.
2. All else changes under ``_lock``; nobody parks or wakes while holding it.
3. ``give`` hands the turn over without freeing it, so nobody overtakes the line: ``_heir`` has it
   from then on. An heir that a wait unwinds with an error passes it on.
4. Nobody waits for a turn that is free: who comes enters the line first and tries the token
   afterwards; who gives returns the token first and looks at the line afterwards.
5. A deadline or a cancel takes a task out of the line (``abandon``), unless it is the heir already.

Rejected: a threading.Lock (it blocks the thread); ``sync``'s Mutex (``net`` must not know it); one
turn for both directions (a parked reader would keep the writers out).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from threading import Lock
from typing import Any

from ...hub.local import this_hub
from ...hub.task import Task
from ...hub.wait import wake

__all__ = ["Turn"]


class Turn:
    """One direction's line, usable from any hub. ``verb`` is for people: ``"receive"``."""

    __slots__ = ("_heir", "_lock", "_verb", "free", "line")

    def __init__(self, verb: str) -> None:
        self._verb = verb
        self._lock = Lock()
        self._heir: Task[Any] | None = None
        self.free: deque[None] = deque((None,), 1)
        self.line: OrderedDict[Task[Any], None] | None = None  # most connections never have one

    def try_take(self) -> bool:
        """Take the turn if it is free; whether it was. Doesn't park."""
        try:
            self.free.pop()
        except IndexError:
            return False
        return True

    def take(self, deadline: int) -> bool:
        """Take the turn; parks while another has it. False when ``deadline`` (ns) passed first.

        Raises Cancelled.
        """
        hub = this_hub()
        task = hub.prepare()
        with self._lock:
            if self.line is None:
                self.line = OrderedDict()
            self.line[task] = None
            if len(self.line) == 1 and self.try_take():
                del self.line[task]
                return True
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
        if not self.line:
            self.free.append(None)
            if not self.line or not self.try_take():
                return  # the hot paths write so much of it out
        with self._lock:
            if not self.line:
                self._heir = None
                self.free.append(None)  # they have gone meanwhile
                return
            self._heir = heir = self.line.popitem(False)[0]
        wake(heir)

    def abandon(self, task: Task[Any]) -> bool:
        with self._lock:
            if self.line is None or task not in self.line:
                return False
            del self.line[task]
            return True

    def reason(self, task: Task[Any]) -> str:
        return f"its turn to {self._verb} over TLS"
