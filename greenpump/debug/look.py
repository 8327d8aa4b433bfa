"""Reading a hub from outside, while it runs.

Invariants
----------
1. Nothing of the hub is written, locked or posted: a hub that is stuck can still be looked at, from
   any thread and from a signal handler.
2. What a hub's own thread changes meanwhile is copied before it is walked, and copied again if it
   changed during the copy (without the GIL even ``deque.copy`` notices that).

Rejected: asking the hub to describe itself (``hub.post``): the one that needs a look is the one
that doesn't answer.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from ..hub.stacks import stack_of
from ..hub.task import NOBODY
from ..hub.worker import Worker

if TYPE_CHECKING:
    from greenlet import greenlet

    from ..hub.hub import Hub
    from ..hub.task import Task

T = TypeVar("T")
Stack = list[tuple[FrameType, int]]

_TRIES = 1000


def steady(read: Callable[[], T]) -> T:
    """What ``read`` returns, once the hub's thread doesn't change a collection under its hands."""
    for _ in range(_TRIES):
        try:
            return read()
        except (RuntimeError, AttributeError):
            continue  # mutated during the copy; a worker that has no task yet
    return read()


def tasks_of(hub: Hub) -> list[Task[Any]]:
    """The main task and every other one that has not ended, each once."""
    # Twice in the list is one that started between two looks.
    return list(dict.fromkeys((hub.main, *steady(hub.live_tasks))))


def detached_of(hub: Hub) -> Counter[str]:
    """The connections that hold no task: how many, by the function that will be called."""
    count: Counter[str] = Counter()
    for pollable in hub.table.copy():
        task = pollable.reader
        if task is not None and task.glet is None:
            count[getattr(task.fn, "__qualname__", None) or type(task.fn).__name__] += 1
    return count


def running(hub: Hub, frames: dict[int, FrameType] | None = None) -> tuple[Task[Any], FrameType]:
    """The task that holds the hub (or NOBODY) and the frame that its thread executes.

    ``frames`` overrides single threads: the caller's own looks at itself from further out. Raises
    LookupError for a thread that is gone.
    """
    ident = hub.thread.ident or 0
    frames = frames or {}
    for _ in range(_TRIES):
        before = (hub.current, hub.quota, hub.polls)
        frame = frames.get(ident) or sys._current_frames()[ident]
        if before == (hub.current, hub.quota, hub.polls):
            break
    return before[0], frame


class Glimpse:
    """The stacks of one hub's tasks."""

    __slots__ = ("_frame", "_holder")

    def __init__(self, hub: Hub, frames: dict[int, FrameType]) -> None:
        self._frame: FrameType | None
        try:
            self._holder, self._frame = running(hub, frames)
        except LookupError:
            self._holder, self._frame = NOBODY, None

    def stack(self, task: Task[Any]) -> Stack:
        """The task's frames, innermost last; none when it has not started or just ended.

        Inside a greenlet that the program made within the task, the greenlets it came from are
        shown further out.
        """
        glet = task.glet
        if glet is None:
            return []
        frame = glet.gr_frame
        if frame is None and self._holder in (task, NOBODY):
            # It runs, or the scheduler runs on its stack; at most one task of a hub does.
            frame, self._frame = self._frame, None
        stack = stack_of(frame)
        for outer in _parents(glet):
            stack[:0] = stack_of(outer.gr_frame)
        return stack


def _parents(glet: greenlet) -> list[greenlet]:
    """Those between a greenlet of the program's own and its task's worker, the worker included."""
    found: list[greenlet] = []
    while not isinstance(glet, Worker) and glet.parent is not None:
        glet = glet.parent
        found.append(glet)
    return found
