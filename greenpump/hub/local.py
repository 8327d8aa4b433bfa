"""This thread's hub.

The modules of this floor below ``hub.py`` must be able to ask for the calling thread's hub, and
only ``hub.py`` can build one; it puts its constructor into ``maker`` when it is imported.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from greenlet import getcurrent

if TYPE_CHECKING:
    from .hub import Hub


class _Local(threading.local):
    hub: Hub
    guard: object


FREE_THREADED: Final = not getattr(sys, "_is_gil_enabled", lambda: True)()
local = _Local()
maker: list[Callable[[], Hub]] = []
hubs: list[Hub] = []
"""Every live hub of the process. Appended to and removed from under the GIL or list's own lock."""
fleet: list[Hub] = []
"""The hubs of ``run``: those that take tasks spawned on ANY."""


if FREE_THREADED:

    def this_hub() -> Hub:
        """The calling thread's hub; the first call in a thread makes it."""
        # First the task: to ask for a local waits for the lock under which they are dropped.
        try:
            return getcurrent().task.hub  # type: ignore[attr-defined, no-any-return]
        except AttributeError:
            return hub_or_none() or maker[0]()

else:

    def this_hub() -> Hub:
        """The calling thread's hub; the first call in a thread makes it."""
        try:
            return local.hub
        except AttributeError:
            pass
        task = getattr(getcurrent(), "task", None)
        if task is not None and task.glet is None:
            # It unwinds, as its thread ends: its hub, which says so, and not another one.
            hub: Hub = task.hub
            return hub
        return maker[0]()


def hub_or_none() -> Hub | None:
    """The calling thread's hub, or None where none was made yet."""
    return getattr(local, "hub", None)
