"""Every task of a hub with its stack, as text: for the deadlock report and ``greenpump.dump``."""

from __future__ import annotations

import sys
import traceback
from types import FrameType
from typing import TYPE_CHECKING, Any

from greenlet import greenlet

from .interrupt import PACKAGE

if TYPE_CHECKING:
    from .hub import Hub
    from .task import Task

Stack = list[tuple[str, int, str]]
"""File, line and function of each frame, innermost last."""

_SCHEDULER = (PACKAGE + "hub/", PACKAGE + "sys/")


def describe_tasks(hub: Hub) -> str:
    """All tasks of ``hub``: name, state, how long it has been in it, spawn site, stack."""
    tasks = [hub.main, *hub.live_tasks()]
    head = f"hub of {hub.thread.name}: {len(tasks)} tasks\n"
    return head + "\n".join(describe_task(task) for task in tasks)


def describe_task(task: Task[Any]) -> str:
    """One task: name, state, age of that state, spawn site, stack."""
    return heading(task) + format_stack(stack_of(frame_of(task)))


def heading(task: Task[Any]) -> str:
    """Name, state, age of that state and spawn site, on one or two lines."""
    age = f"{max(0, task.hub.timers.clock() - task.since) / 1e9:.3f} s"
    state = task.state()
    # ``since`` is when the task parked last (or was spawned): nobody notes when it was resumed.
    if state == "running":
        state = f"running, no wait begun for {age}"
    elif state == "ready":
        state = f"ready, parked {age} ago"
    else:
        state = f"{state} for {age}"
    line = f"task {task.name}: {state}\n"
    return line if task.site is None else f"{line}  spawned at {task.spawned_at()}\n"


def frame_of(task: Task[Any]) -> FrameType | None:
    """The innermost frame of a task, parked or running; None before its start and after its end."""
    glet = task.glet
    if task.done or not isinstance(glet, greenlet):  # its worker runs others by now
        return None
    if glet.gr_frame is not None:
        return glet.gr_frame
    # It is the one its thread runs at this moment.
    return sys._current_frames().get(task.hub.thread.ident or 0)


def stack_of(frame: FrameType | None) -> Stack:
    """The stack that ends in ``frame``."""
    stack = []
    while frame is not None:
        code = frame.f_code
        stack.append((code.co_filename, frame.f_lineno or code.co_firstlineno, code.co_name))
        frame = frame.f_back
    return trim(stack[::-1])


def trim(stack: Stack) -> Stack:
    """The stack without the scheduler's frames at either end."""
    start, end = 0, len(stack)
    while start < end and stack[start][0].startswith(_SCHEDULER):
        start += 1
    while start < end and stack[end - 1][0].startswith(_SCHEDULER):
        end -= 1
    return stack[start:end]


def format_stack(stack: Stack) -> str:
    """The stack as in a traceback."""
    return "".join(traceback.format_list((*frame, None) for frame in stack))
