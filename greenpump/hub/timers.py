"""Time: a heap of deadlines over one timerfd.

Invariants
----------
1. An owner (a task, a Timer) has at most one live entry: the one whose time equals
   ``owner.timer_at``; every other entry of it is stale and dropped when met.
2. ``owner.timer_at <= owner.deadline`` while it waits. An entry that fires before the owner's
   current deadline is pushed back to it: a deadline that moves later (each ``recv`` with a
   timeout of 30 s) costs no heap operation and no syscall, only a spurious firing every 30 s.
3. The timerfd is armed at or before the earliest live entry. It is re-armed only for a sooner
   deadline or after it fired, absolute, edge-triggered and never read.
4. Stale entries never outnumber the live ones by more than ``SLACK``.

All times are integer nanoseconds of ``clock`` (CLOCK_MONOTONIC; ``greenpump.testing`` swaps it).

Rejected: a heap entry per operation (push and cancel cost 0.4 µs each and a syscall when it is the
earliest); a timing wheel (coarse, and cancelled entries are already free here); epoll_wait's
timeout (the thread's timer slack of 50 µs, and a clock read before every poll).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Protocol

from ..sys.timerfd import Timerfd

FAR = 2**63 - 1
"""The deadline of what has none."""

CENTURY = 100 * 365 * 86400
"""Seconds; what lasts longer is taken for ever."""

SLACK = 512


class Timed(Protocol):
    """What owns an entry."""

    timer_at: int

    @property
    def deadline(self) -> int:
        """When its time is up. Another thread may set it: it is read once for each look."""

    def timed_out(self) -> None:
        """The deadline has passed. Runs on the hub's root: no user code here."""


class Timers:
    """One hub's deadlines."""

    __slots__ = ("_alarm", "_armed", "_due", "_heap", "_seq", "_stale", "clock", "timerfd")
    timerfd: Timerfd  # the hub's, which makes it anew after a fork

    def __init__(self) -> None:
        self.clock: Callable[[], int] = time.monotonic_ns
        self._heap: list[tuple[int, int, Timed]] = []
        self._seq = count()
        self._due: Timed | None = None  # who has no entry any more and has not yet been told
        self._armed = FAR
        self._stale = 0
        self._alarm = True

    def after(self, seconds: float) -> int:
        """The deadline ``seconds`` from now; ``math.inf`` gives none.

        Raises ValueError for a negative number or NaN, TypeError for what is no number.
        """
        if seconds >= 0:
            return self.clock() + int(seconds * 1_000_000_000) if seconds <= CENTURY else FAR
        if seconds != seconds:
            raise ValueError("a time in seconds can't be NaN")
        raise ValueError(f"a time in seconds must not be negative: {seconds!r}")

    def arm(self, owner: Timed, when: int) -> None:
        """Make sure ``owner`` is looked at by ``when``, if not earlier."""
        at = owner.timer_at
        if when < at:
            # A RecursionError here must leave nothing half done: push first, then say so.
            heappush(self._heap, (when, next(self._seq), owner))
            owner.timer_at = when
            if when < self._armed:
                self._arm_fd(when)
            if at != FAR:
                self._note_stale()

    def disarm(self, owner: Timed) -> None:
        """Forget ``owner``'s entry; it stays in the heap as a stale one."""
        owner.timer_at = FAR
        self._note_stale()

    def expire(self) -> None:
        """Tell every owner whose deadline has passed; re-arm for the next. Root only."""
        heap = self._heap
        now = self.clock()
        if now >= self._armed:
            self._armed = FAR
        if self._due is not None:
            self._look_at(self._due, now)  # a signal handler of the program's raised in the midst
        while heap and heap[0][0] <= now:
            when, _, owner = heap[0]
            if owner.timer_at != when:
                self._stale -= 1
                heappop(heap)
                continue
            self._due = owner
            heappop(heap)
            self._look_at(owner, now)
        if heap and heap[0][0] < self._armed:
            self._arm_fd(heap[0][0])

    def _look_at(self, owner: Timed, now: int) -> None:
        """Tell ``_due`` that its time has come, or enter it anew."""
        owner.timer_at = FAR
        deadline = owner.deadline
        if deadline <= now:
            owner.timed_out()
        elif deadline != FAR:
            self.arm(owner, deadline)
        self._due = None

    def next_deadline(self) -> int:
        """The earliest deadline that somebody still waits for; FAR when there is none."""
        heap = self._heap
        while heap:
            when, _, owner = heap[0]
            deadline = owner.deadline
            if owner.timer_at == when and deadline == when:
                return when
            heappop(heap)
            if owner.timer_at != when:
                self._stale -= 1
                continue
            owner.timer_at = FAR
            if deadline != FAR:
                owner.timer_at = deadline
                heappush(heap, (deadline, next(self._seq), owner))
        return FAR

    def owners(self) -> list[Timed]:
        """Every owner with a live entry, some perhaps twice. From any thread."""
        return [owner for when, _, owner in self._heap.copy() if owner.timer_at == when]

    def use_clock(self, clock: Callable[[], int], *, alarm: bool) -> None:
        """Take the time from ``clock`` (nanoseconds); ``alarm``: whether the timerfd follows it.

        Without an alarm whoever moves the clock asks for the chores. ``clock`` must not call
        anything: it is read where a RecursionError would lose what the kernel has just reported.
        """
        self.clock = clock
        self._alarm = alarm
        self.rearm()

    def rearm(self) -> None:
        """Arm the timerfd anew: after a fork made another one, or the clock was swapped."""
        self._armed = FAR
        if self._heap:
            self._arm_fd(self._heap[0][0])

    def __len__(self) -> int:
        """How many owners have a live entry."""
        return len(self._heap) - self._stale

    def _arm_fd(self, when: int) -> None:
        if self._alarm:
            self.timerfd.arm(when)
        self._armed = when

    def _note_stale(self) -> None:
        self._stale += 1
        if self._stale > SLACK + len(self._heap) // 2:
            self._compact()

    def _compact(self) -> None:
        # An owner armed sooner and then for the old time again has two entries that look live.
        live = {}
        for entry in self._heap:
            if entry[2].timer_at == entry[0]:
                live[id(entry[2])] = entry
        self._heap[:] = live.values()  # in place: expire() may be walking it
        heapify(self._heap)
        self._stale = 0
