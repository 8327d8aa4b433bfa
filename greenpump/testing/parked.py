"""``wait_all_parked``: go on when everybody else waits.

    spawn(server)
    wait_all_parked()            # it stands in accept now
    client.connect(...)

Invariant: a watcher is readied by the hub only after a sleep in which nothing came, with nobody
ready (``Hub.nothing_came``). So the hub sleeps as shortly as it can while one waits.

Rejected: counting parked tasks (one whose event the kernel holds already is not at rest).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..hub.deadlock import fd_waiters
from ..hub.hub import PATIENCE_MS
from ..hub.local import this_hub

if TYPE_CHECKING:
    from ..hub.hub import Hub
    from ..hub.task import Task

GRACE_MS: Final = 1
"""Real time that the kernel gets to deliver over loopback, while somebody waits on an fd."""


class _AllParked:
    """The wait for everybody else's."""

    __slots__ = ("hub",)

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def abandon(self, task: Task[Any]) -> bool:
        try:
            self.hub.watchers.remove(task)
        except ValueError:
            return False
        return True

    def reason(self, task: Task[Any]) -> str:
        return "wait_all_parked"


def wait_all_parked() -> None:
    """Park until every other task of this hub is parked and nothing that could ready one is due.

    "Due" is what the kernel has ready and what other threads have posted; a deadline that lies
    ahead is not, so with a virtual clock this returns before the clock jumps. While tasks wait on
    fds the kernel gets ``GRACE_MS`` to deliver. Tasks that wait for an offloaded call are parked.
    Several tasks that wait here are served in turn, each as if it alone did: the one that is
    resumed first makes the others wait until it parks again.

    Raises Cancelled. Source: trio.testing.wait_all_tasks_blocked, Go's synctest.Wait.
    """
    hub = this_hub()
    task = hub.prepare()
    hub.patience = hub.idle_ms = GRACE_MS if fd_waiters(hub) else 0
    hub.watchers.append(task)
    try:
        hub.wait(task, _AllParked(hub))
    finally:
        be_patient(hub)


def be_patient(hub: Hub) -> None:
    """Set how long the hub's next sleep may last before it asks itself why."""
    if hub.autojump is None and not hub.watchers:
        hub.patience = hub.idle_ms = PATIENCE_MS
    else:
        hub.patience = hub.idle_ms = 0
