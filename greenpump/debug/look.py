"""Reading a hub from outside, while it runs.

Invariants
----------
1. Nothing of the hub is written or locked: a hub that is stuck can still be looked at, from any
   thread and from a signal handler.
2. What a hub's own thread changes meanwhile is copied before it is walked, and copied again if it
   changed during the copy (without the GIL even ``deque.copy`` notices that).
3. Without the GIL no frame of another thread is touched: walking one that runs crashes the
   interpreter. There a hub is asked to walk its own (``hub.post``), and what doesn't answer is read
   by faulthandler, which stops the world: that shows the task that runs, and not those that wait.

Rejected: asking the hub on every build: the one that needs a look is the one that doesn't answer.
"""

from __future__ import annotations

import faulthandler
import os
import re
import sys
from _thread import allocate_lock, get_ident
from collections import Counter
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from ..hub.local import FREE_THREADED
from ..hub.stacks import Stack, stack_of, trim
from ..hub.task import NOBODY, label
from ..hub.worker import Worker

if TYPE_CHECKING:
    from greenlet import greenlet

    from ..hub.hub import Hub
    from ..hub.task import Task

T = TypeVar("T")

ANSWER_WITHIN = 0.2
"""Seconds that a hub gets to describe itself, without the GIL."""

_TRIES = 1000
_THREAD = re.compile(r"(?:Current t|T)hread 0x([0-9a-f]+)")
_FRAME = re.compile(r'  File "(.*)", line (\d+) in (.*)')


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
            count[label(task.fn)] += 1
    return count


# -- stacks --------------------------------------------------------------------------------------


def threads() -> dict[int, Stack]:
    """What each thread of the process executes, by its ident."""
    if not FREE_THREADED:
        return {ident: stack_of(frame) for ident, frame in sys._current_frames().items()}
    fd = os.memfd_create("greenpump")
    try:
        faulthandler.dump_traceback(fd, all_threads=True)
        text = os.pread(fd, os.lseek(fd, 0, os.SEEK_END), 0).decode(errors="replace")
    finally:
        os.close(fd)
    found: dict[int, Stack] = {}
    stack: Stack = []
    for line in text.splitlines():
        if thread := _THREAD.match(line):
            stack = found.setdefault(int(thread[1], 16), [])
        elif frame := _FRAME.fullmatch(line):
            stack.insert(0, (frame[1], int(frame[2]), frame[3]))
    return {ident: trim(stack) for ident, stack in found.items()}


def running(hub: Hub) -> tuple[Task[Any], Stack]:
    """The task that holds the hub (or NOBODY) and what the hub's thread executes.

    The stack is empty when the thread is gone, or when it never stood still.
    """
    for _ in range(_TRIES if hub.thread.ident != get_ident() else 1):
        before = (hub.current, hub.quota, hub.polls)
        stack = threads().get(hub.thread.ident or 0, [])
        if before == (hub.current, hub.quota, hub.polls):
            return before[0], stack
    return hub.current, []


def stacks(hub: Hub, tasks: Iterable[Task[Any]], mine: FrameType) -> dict[Task[Any], Stack]:
    """The stacks of a hub's tasks, innermost last; a task whose stack can't be had is missing.

    ``mine`` stands for the calling thread: it looks at itself from further out.
    """
    if hub.thread.ident == get_ident():
        return _walk(tasks, hub.current, stack_of(mine))
    if FREE_THREADED:
        return _ask(hub, tasks)
    return _walk(tasks, *running(hub))


def _walk(tasks: Iterable[Task[Any]], holder: Task[Any], executes: Stack) -> dict[Task[Any], Stack]:
    found = {}
    for task in tasks:
        glet = task.glet
        if glet is None:
            continue
        stack = stack_of(glet.gr_frame)
        if glet.gr_frame is None and holder in (task, NOBODY):
            # It runs, or the scheduler runs on its stack; at most one task of a hub does.
            stack, executes = executes, []
        # Inside a greenlet that the program made within the task: those it came from, further out.
        for outer in _parents(glet):
            stack = stack_of(outer.gr_frame) + stack
        found[task] = stack
    return found


def _parents(glet: greenlet) -> list[greenlet]:
    """Those between a greenlet of the program's own and its task's worker, the worker included."""
    found: list[greenlet] = []
    while not isinstance(glet, Worker) and glet.parent is not None:
        glet = glet.parent
        found.append(glet)
    return found


def _ask(hub: Hub, tasks: Iterable[Task[Any]]) -> dict[Task[Any], Stack]:
    answer: list[dict[Task[Any], Stack]] = []
    answered = allocate_lock()
    answered.acquire()

    def step() -> None:
        answer.append(_walk(tasks, NOBODY, []))
        answered.release()

    hub.post(step)
    if answered.acquire(timeout=ANSWER_WITHIN):
        return answer[0]
    holder, stack = running(hub)
    return {holder: stack}
