"""What a parked task waits for: the one protocol of every wait.

Invariants
----------
1. ``task.wait`` is not None exactly while the task is parked and registered with that wait
   (or marked YIELD: in the run queue by its own will).
2. Whoever wakes a task first takes it out of the place where it was registered (the pollable's
   slot, a mutex's queue), clears ``task.wait`` and only then readies the task. So a task is
   readied once, and a wait ends in exactly one way: by its event, its deadline, or a cancel.
3. Deadlines and cancels go through ``abandon``, which asks the place itself. If the event has
   already claimed the task, ``abandon`` answers False and the event wins: no token, message or
   lock that was handed over is ever lost.

Rejected: a "woken" flag on the task that every waker tests (a test on the hot path for a race that
only deadlines and cancels can lose); throwing into the parked greenlet (greenlet.throw runs the
victim at once, in the middle of the waker).
"""

from __future__ import annotations

from _thread import get_ident
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .task import Task


class Wait(Protocol):
    """A place where tasks wait."""

    def abandon(self, task: Task[object]) -> bool:
        """Take ``task`` out; False when its event has already claimed it. Called by its hub."""

    def reason(self, task: Task[object]) -> str:
        """What the task waits for, for people: ``"read on fd 7"``."""


class Sleep:
    """The wait of a task that only its deadline (or a cancel) will end."""

    def abandon(self, task: Task[object]) -> bool:
        return True

    def reason(self, task: Task[object]) -> str:
        return "sleep"


class Yield:
    """The mark of a task that stands in the run queue by its own will: nothing to abandon."""

    def abandon(self, task: Task[object]) -> bool:
        return False

    def reason(self, task: Task[object]) -> str:
        return "ready"


SLEEP = Sleep()
YIELD = Yield()


def wake(task: Task[object]) -> None:
    """Ready a parked task which the caller has claimed (invariant 2), from any thread."""
    task.wait = None
    hub = task.hub
    if hub.ident == get_ident():
        hub.ready.append(task)
        # Tasks that wake each other for ever keep the run queue full: law 7.
        hub.quota = quota = hub.quota - 1
        if quota < 0 or hub.sleeping:
            hub.refilled()
    else:
        hub.post(task)
