"""Asleep for ever is an error (law 8).

A hub that slept a while without an event asks whether anything could still wake it: a timer, an fd
somebody waits on, a call in an offload thread, another thread, a signal handler of the program's.
If nothing can, its main task gets a Deadlock that shows every task with its wait reason and stack.

Rejected: counting fd waiters as they come and go (a counter on the hot path for a question that is
asked only when idle).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import Deadlock
from .stacks import describe_tasks
from .timers import FAR

if TYPE_CHECKING:
    from .hub import Hub

F = TypeVar("F", bound=Callable[..., Any])


class Bystander(threading.Thread):
    """A thread that looks on and can't wake a task: having one is no hope for those asleep."""


def wakes_nobody(handler: F) -> F:
    """Mark a signal handler that can't wake a task."""
    handler.wakes_nobody = True  # type: ignore[attr-defined]
    return handler


def find(hub: Hub) -> Deadlock | None:
    """A Deadlock to raise in the hub's main task, or None while something could wake a task."""
    if (
        hub.main.wait is None
        or hub.externals
        or hub.timers.next_deadline() != FAR
        or _other_threads(hub)
        or fd_waiters(hub)
        or _signal_handlers(hub)
    ):
        return None
    return Deadlock("all tasks are asleep and nothing can wake them\n\n" + describe_tasks(hub))


def _other_threads(hub: Hub) -> bool:
    """Whether another thread runs that could wake a task."""
    return any(
        thread is not hub.thread and not isinstance(thread, Bystander)
        for thread in threading.enumerate()
    )


def fd_waiters(hub: Hub) -> bool:
    """Whether a task, or a detached connection, waits for one of the hub's fds."""
    return any(
        pollable.reader is not None or pollable.writer is not None or pollable.crowd is not None
        for pollable in hub.table
        if pollable.reader is not hub.root_task
    )


def _signal_handlers(hub: Hub) -> bool:
    """Whether a signal handler of the program's could wake a task."""
    if hub.interrupts is None:
        return False
    ours = (None, signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)
    for signum in signal.valid_signals():
        handler = signal.getsignal(signum)
        if handler in ours or handler == hub.interrupts.on_sigint:
            continue
        if not getattr(handler, "wakes_nobody", False):
            return True
    return False
