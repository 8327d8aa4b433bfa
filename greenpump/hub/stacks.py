"""Every task of a hub with its stack, as text: for the deadlock report and ``greenpump.dump``."""

from __future__ import annotations

import sys
import traceback
from types import FrameType
from typing import TYPE_CHECKING, Any

from greenlet import greenlet

if TYPE_CHECKING:
    from .hub import Hub
    from .task import Task


def describe_tasks(hub: Hub) -> str:
    """All tasks of ``hub``: name, state, how long it has been in it, spawn site, stack."""
    tasks = [hub.main, *hub.live_tasks()]
    head = f"hub of {hub.thread.name}: {len(tasks)} tasks\n"
    return head + "\n".join(describe_task(task) for task in tasks)


def describe_task(task: Task[Any]) -> str:
    """One task: name, state, age of that state, spawn site, stack."""
    age = max(0, task.hub.timers.clock() - task.since) / 1e9
    lines = [f"task {task.name}: {task.state()} for {age:.3f} s\n"]
    if task.site is not None:
        lines.append(f"  spawned at {task.spawned_at()}\n")
    frame = _frame_of(task)
    if frame is not None:
        lines += traceback.format_stack(frame)
    return "".join(lines)


def _frame_of(task: Task[Any]) -> FrameType | None:
    """The innermost frame of a task, parked or running."""
    glet = task.glet
    if not isinstance(glet, greenlet):
        return None
    if glet.gr_frame is not None:
        return glet.gr_frame
    # It is the one its thread runs at this moment.
    return sys._current_frames().get(task.hub.thread.ident or 0)
