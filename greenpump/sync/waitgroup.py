"""WaitGroup: wait until all of a number of tasks are done.

Invariants (those of ``waiters.py``, and)
-----------------------------------------
1. ``_count`` is never negative, and nobody is in line while it is 0: whoever brings it to 0 lets
   all waiters in at once. So it may be used again immediately.

Rejected: an error for an ``add`` from 0 while others wait (Go's "misuse"): it can't happen here,
since at 0 nobody waits any more.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from sys import _getframe
from threading import Lock
from typing import Any, ParamSpec, TypeVar

from ..hub.report import report
from ..hub.spawning import spawn
from ..hub.task import Task
from .waiters import Waiters, check_timeout, wake_all

P = ParamSpec("P")
T = TypeVar("T")


class WaitGroup(Waiters[bool]):
    """A counter of what is still going on: ``add`` or ``go`` before, ``done`` after, and ``wait``.

    It neither cancels tasks nor collects their errors; ``Group`` does. Usable from tasks of any hub
    and from any thread. Source: Go's sync.WaitGroup.
    """

    __slots__ = ("_count",)

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def go(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Start a task that counts until it has ended, however it ends; as ``greenpump.spawn``.

        Doesn't park. Raises TypeError when ``fn`` is not callable.
        """
        self.add()
        try:
            task = spawn(fn, *args, **kwargs)
        except BaseException:
            self.done()
            raise
        frame = _getframe(1)
        task.site = (frame.f_code, frame.f_lasti)
        task.when_done(_Done(self, task))  # on this hub, and not started: it can't have ended
        return task

    def add(self, n: int = 1) -> None:
        """Count ``n`` more, which may be negative; at 0 all waiters go on. Doesn't park.

        Raises ValueError when the counter would become negative.
        """
        n = index(n)
        with self._lock:
            count = self._count + n
            if count < 0:
                raise ValueError(f"more were done than added: add({n}) to {self!r}")
            self._count = count
            let_in = self._let_in()
        wake_all(let_in)

    def done(self) -> None:
        """Count one less: ``add(-1)``."""
        self.add(-1)

    def wait(self, timeout: float | None = None) -> bool:
        """Park until the counter is 0. False when ``timeout`` seconds passed first.

        Raises Cancelled, and ValueError for a negative timeout.
        """
        if timeout is not None:
            check_timeout(timeout)
        return not self._count or self._wait(True, timeout) is not None

    def _take(self, want: bool) -> bool:
        return not self._count

    def _state(self) -> str:
        return f"{self._count} not done"


class _Done:
    """Counts a task's end."""

    __slots__ = ("_group", "_task")

    observer = False

    def __init__(self, group: WaitGroup, task: Task[Any]) -> None:
        self._group = group
        self._task = task

    def ended(self) -> None:
        try:
            self._group.done()
        except ValueError as error:
            report(self._task, error)  # the program called done() for it, too

    def renew_locks(self) -> None:
        self._group._lock = Lock()
