"""Asleep for ever is an error (law 8).

A hub that slept a while without an event asks whether anything could still wake it: a timer, an fd
somebody waits on, a call in an offload thread, another thread, a signal handler of the program's.
If nothing can, its main task gets a Deadlock that shows every task with its wait reason and stack.

In a fleet other hubs can, too. So a hub without a hope of its own says so, by a negative
``idle_ms`` that no other verdict has had, and sleeps on; the last of them to do so raises the alarm
in ``run``'s main.

Invariants
----------
1. A hub takes its verdict back before it does anything: before it takes something from the inbox or
   from ``stealable``, and at each event.
2. So when two rounds through all hubs find the same verdicts and nothing in line anywhere, there
   was a moment between them when nobody did anything and nothing was on its way.

Rejected: counting fd waiters as they come and go (a counter on the hot path for a question that is
asked only when idle).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ..errors import Deadlock
from .stacks import describe_tasks
from .timers import FAR

if TYPE_CHECKING:
    from .hub import Hub

F = TypeVar("F", bound=Callable[..., Any])

NEVER: Final = -1
"""``hub.idle_ms`` of a hub that need not ask again: what wakes it is an event."""

LATER_MS: Final = 1000
"""How long at most a hub sleeps while its only hope is another thread, which may just end."""

_verdicts = count(-2, -1)
_asking = threading.Lock()
"""Of two hubs that lose their hope at once, the second sees the first's verdict."""


class Bystander(threading.Thread):
    """A thread that looks on and can't wake a task: having one is no hope for those asleep."""


def wakes_nobody(handler: F) -> F:
    """Mark a signal handler that can't wake a task."""
    handler.wakes_nobody = True  # type: ignore[attr-defined]
    return handler


def look(hub: Hub) -> None:
    """The hub slept in vain. Raise the alarm, or say in ``hub.idle_ms`` when to ask again."""
    report = find(hub)
    if report is not None:
        first = hub.fleet[0] if hub.fleet else hub
        first.post(partial(first.to_main, report))


def find(hub: Hub) -> Deadlock | None:
    """A Deadlock to raise in the main task, or None while something could wake a task."""
    fleet = list(hub.fleet) or [hub]
    if (
        hub.main.wait is None
        or hub.externals
        or hub.timers.next_deadline() != FAR
        or fd_waiters(hub)
        or _signal_handlers(hub)
    ):
        hub.idle_ms = NEVER
        return None
    if _other_threads(fleet):
        hub.idle_ms = min(2 * max(1, hub.idle_ms), LATER_MS)
        return None
    try:
        _asking.acquire()
        hub.idle_ms = next(_verdicts)
        verdicts = [_verdict(each) for each in fleet]
        if not all(verdicts) or verdicts != [_verdict(each) for each in fleet]:
            return None
        hub.idle_ms = hub.patience  # it may happen again
    finally:
        _asking.release()
    return Deadlock(
        "all tasks are asleep and nothing can wake them\n\n"
        + "\n".join(describe_tasks(each) for each in fleet)
    )


def _verdict(hub: Hub) -> int:
    """The hub's verdict that it has no hope of its own; 0 if it has some, or something to do."""
    # In this order: it takes the verdict back before it takes what is in line.
    if hub.inbox or hub.stealable:
        return 0
    return hub.idle_ms if hub.idle_ms < NEVER else 0


def _other_threads(fleet: list[Hub]) -> bool:
    """Whether another thread than the hubs' runs that could wake a task."""
    own = {hub.thread for hub in fleet}
    return any(
        thread not in own and not isinstance(thread, Bystander) for thread in threading.enumerate()
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
