"""After os.fork: the child's hub goes on, with kernel objects of its own.

Facts
-----
* The child has the forking thread alone: other hubs' tasks will never run there.
* An epoll instance is shared with the parent: an ADD or DEL by the child would be the parent's too.
* All tasks of the forking thread exist in the child as well, as after gevent.fork. A child that
  only wants to do one thing should do it without parking and leave by ``os._exit``; pre-forking
  servers fork before they spawn.

So the child closes its copies, makes a new epoll, timerfd, eventfd and signal wake-up, and
registers every fd of its table anew, with the generations they had.
"""

from __future__ import annotations

import threading
from contextlib import suppress

from . import task
from .hub import Hub
from .interrupt import install
from .local import fleet, hub_or_none, hubs
from .pollable import VACANT
from .task import Task


def after_in_child() -> None:
    """Make the forking thread's hub work in the child; forget the others."""
    # Another thread of the parent may have held it at the moment of the fork.
    task._joining = threading.Lock()
    hub = hub_or_none()
    for other in list(hubs):
        if other is not hub:
            hubs.remove(other)
            other.closed = True
            other.close_kernel_objects()
    fleet[:] = [hub] if hub is not None and hub in fleet else []
    if hub is not None:
        rebuild(hub)


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
    # Steps that other threads asked for are theirs; a task of ours that one of them has claimed
    # is readied by nobody else any more.
    hub.ready.extend(item for item in hub.inbox if isinstance(item, Task) and item.hub is hub)
    hub.inbox.clear()
    hub.open_kernel_objects()
    for pollable in pollables:
        # One that was closed behind our back is of no use to anybody.
        with suppress(OSError):
            pollable.register(hub, generation=pollable.generation)
    hub.timers.rearm()
    hub.interrupts = install(hub)
