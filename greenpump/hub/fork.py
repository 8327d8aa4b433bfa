"""Around os.fork: the child's hub goes on, with kernel objects of its own.

Facts
-----
* The child has the forking thread alone: other hubs' tasks will never run there.
* An epoll instance is shared with the parent: an ADD or DEL by the child would be the parent's too,
  and an edge that the child fetched would be lost to the parent.
* All tasks of the forking thread exist in the child as well, as after gevent.fork. A child that
  only wants to do one thing should do it without parking and leave by ``os._exit``; pre-forking
  servers fork before they spawn.
* The forking thread is the child's main thread: signals are its hub's from then on.

So the child closes its copies, makes a new epoll, timerfd, eventfd and signal wake-up, and
registers every fd of its table anew, with the generations they had. What other threads had posted
is copied like all else, and is done. Who waits for a task of another hub gets a HubError; who waits
for a socket of another hub waits for it at home.
"""

from __future__ import annotations

import threading
from _thread import get_ident
from contextlib import suppress
from typing import Any, Final

from greenlet import getcurrent

from ..errors import HubError
from . import deadlock
from . import hub as hub_module
from . import pollable as pollable_module
from . import task as task_module
from .hub import Hub
from .interrupt import install
from .local import fleet, hub_or_none, hubs, local
from .pollable import VACANT, Pollable, RemoteSeat
from .task import Locking, Task

_ENDLESS: Final = 1 << 30
_others: dict[int, list[Hub]] = {}
"""By forking thread: the other hubs. Python ends the other threads' locals, and so their hubs,
before the child may look at them."""
_left: list[Hub] = []
"""Hubs whose tasks are the parent's alone: dropped, they would unwind in the child as well."""


def before() -> None:
    """Note the other hubs; see to it that the child can't poll the epoll that it shares."""
    hub = hub_or_none()
    _others[get_ident()] = [other for other in list(hubs) if other is not hub]
    if hub is not None:
        hub.spent += hub.round - hub.quota
        hub.quota = _ENDLESS


def in_parent() -> None:
    """The parent goes on as if nothing had happened."""
    _others.pop(get_ident(), None)
    hub = hub_or_none()
    if hub is not None:
        hub.quota = hub.round


def in_child() -> None:
    """Make the forking thread's hub work in the child; forget the others."""
    others = _others.pop(get_ident(), [])
    _others.clear()
    # Another thread of the parent may have held one of them at the moment of the fork.
    task_module._joining = threading.Lock()
    task_module._moving = threading.Lock()
    pollable_module._adopting = threading.Lock()
    hub_module._fence = threading.Lock()
    deadlock._asking = threading.Lock()
    hub = hub_or_none()
    fleet[:] = [hub] if hub is not None and hub in fleet else []
    for other in others:
        if other.interrupts is not None:
            other.interrupts.uninstall()
    if hub is not None:
        rebuild(hub)
        hub.quota = hub.round
    for other in others:
        other.sleeping = False  # nobody is to write to its eventfd
        other.release()
        if hub is not None:
            _end_waits_for(other, hub)


def leave_hub() -> None:
    """In a child that wants none of the parent's tasks: the next use of a hub makes a new one."""
    hub = hub_or_none()
    if hub is not None:
        _left.append(hub)
        hub.release()
        del local.hub, local.guard
        with suppress(AttributeError):
            del getcurrent().task  # type: ignore[attr-defined]


def rebuild(hub: Hub) -> None:
    """Give ``hub`` new kernel objects and register its fds with them."""
    pollables = {p for p in hub.table if p is not VACANT} - set(hub.wakeups)
    for internal in hub.wakeups:
        hub.table[internal.fd] = VACANT
    if hub.interrupts is not None:
        hub.interrupts.uninstall()
        hub.interrupts = None
    hub.close_kernel_objects()
    hub.thread = threading.current_thread()
    hub.sleeping = False
    for item in list(hub.inbox):
        seat = getattr(item, "__self__", None)
        if isinstance(seat, RemoteSeat) and seat.task.hub is not hub:
            hub.inbox.remove(item)
    hub.open_kernel_objects()
    for pollable in pollables:
        for waiter in list(pollable.crowd or ()):
            if waiter.task.hub is not hub:
                pollable.leave(waiter)  # it would take the readiness with it
        # One that was closed behind our back is of no use to anybody.
        with suppress(OSError):
            pollable.register(hub, generation=pollable.generation)
    hub.timers.rearm()
    hub.interrupts = install(hub)


def _end_waits_for(other: Hub, hub: Hub) -> None:
    """Wake this hub's tasks that wait for what only ``other`` could have given them."""
    waits: list[Any] = [getattr(item, "__self__", None) for item in other.inbox]
    pollable: Pollable
    for pollable in set(other.table):
        waits += pollable.crowd or ()
    for seat in waits:
        if isinstance(seat, RemoteSeat) and seat.task.hub is hub:
            seat.offer()  # it tries again, and registers here
    for task in other.live_tasks():
        if task._joiners is not None:
            _lost(task)


def _lost(task: Task[Any]) -> None:
    error = HubError(
        f"the process forked while task {task.name} ran on the hub of {task.hub.thread.name}: "
        "that thread is the parent's, and how the task ends is known there only"
    )
    for joiner in list(task._joiners or ()):
        if isinstance(joiner, Locking):
            joiner.renew_locks()
    task.finish(None, error)
