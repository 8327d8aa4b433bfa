"""watchdog: which task holds its hub, and where.

A task that computes, or calls something that blocks the thread, keeps every other task of its hub
waiting. A thread of the watchdog's looks at each hub a few times per ``limit`` and reports the task
it finds there without a park in between.

Invariants
----------
1. The hubs do nothing for it. That a task has parked shows in what was needed to resume it: an
   event raises ``hub.polls``, a wake or a yield uses up ``hub.quota`` (law 7), and then
   ``hub.current`` and ``task.since`` change more often than not.
2. Never a false report: a hold begins when it is first *seen*, and ends at the first sign of a
   park. One shorter than ``limit`` is never reported, one longer than 5/4 of it always, unless
   the code that holds the hub keeps the GIL too: the watchdog sees nothing until it is over.
3. One report per hold and doubling of it: at ``limit``, 2 x, 4 x …
4. A task that is alone keeps nobody waiting: the thread's own blocking code is no hold.
5. The thread never keeps the process alive, and is no hope for a deadlocked one (Bystander).

Rejected: a timestamp at every switch (35 ns on a path of 300); SIGALRM per hold (a syscall per
switch; the main thread only); sys.setswitchinterval games.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..hub.deadlock import Bystander
from ..hub.interrupt import calls_user_code
from ..hub.local import hubs
from ..hub.stacks import format_stack
from ..hub.task import NOBODY
from .look import detached_of, running

if TYPE_CHECKING:
    from ..hub.hub import Hub
    from ..hub.task import Task

logger = logging.getLogger("greenpump.watchdog")

LOOKS_PER_LIMIT = 4


@dataclass(frozen=True, slots=True)
class Hold:
    """A task found holding its hub. ``str()`` of it is the report."""

    task: Task[Any]
    seconds: float
    """For how long at least, so far."""
    stack: str
    """Where it was at the moment of the report, as in a traceback."""

    def __str__(self) -> str:
        thread = self.task.hub.thread.name
        lines = f"task {self.task.name} has held the hub of {thread} for {self.seconds:.3f} s\n"
        if self.task.site is not None:
            lines += f"  spawned at {self.task.spawned_at()}\n"
        return lines + self.stack.rstrip("\n")


def log(hold: Hold) -> None:
    """Log a warning to ``greenpump.watchdog``: what a watchdog does unless told otherwise."""
    logger.warning("%s", hold)


@dataclass(slots=True)
class _Seen:
    """What a hub looked like when its present hold was first seen."""

    task: weakref.ref[Task[Any]]
    mark: tuple[int, int, int]
    at: int
    report_at: int


class Watchdog:
    """Looks at all hubs until it is stopped. Made by ``watchdog``; a context manager."""

    def __init__(self, limit: float, report: Callable[[Hold], object] = log) -> None:
        if not 0 < limit < math.inf:
            raise ValueError(f"a watchdog's limit is a positive number of seconds, not {limit!r}")
        if not callable(report):
            raise TypeError(f"a watchdog reports to a callable, not {report!r}")
        self.limit = limit
        self._limit = int(limit * 1_000_000_000)
        self._report = report
        self._seen: weakref.WeakKeyDictionary[Hub, _Seen] = weakref.WeakKeyDictionary()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the thread that looks; ``watchdog`` has done that."""
        self._stop = threading.Event()
        self._thread = Bystander(target=self._run, name="greenpump watchdog", daemon=True)
        self._thread.start()
        _started.add(self)

    def stop(self) -> None:
        """Stop looking, and wait for a report that is under way. Again, it does no harm."""
        _started.discard(self)
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def sample(self, now: int) -> None:
        """Look at every hub once; ``now`` is in nanoseconds and grows from look to look."""
        for hub in hubs.copy():
            task = hub.current
            if task is NOBODY or hub.closed:
                self._seen.pop(hub, None)
                continue
            mark = (hub.quota, hub.polls, task.since)
            seen = self._seen.get(hub)
            if seen is None or seen.task() is not task or seen.mark != mark:
                self._seen[hub] = _Seen(weakref.ref(task), mark, now, now + self._limit)
            elif now >= seen.report_at:
                hold = _caught(hub, task, mark, (now - seen.at) / 1e9)
                if hold is not None:
                    while seen.report_at <= now:
                        seen.report_at += seen.report_at - seen.at
                    self._tell(hold)

    @calls_user_code
    def _tell(self, hold: Hold) -> None:
        try:
            self._report(hold)
        except Exception:
            logger.exception("the watchdog's report function failed")

    def _run(self) -> None:
        stop = self._stop
        while not stop.wait(self.limit / LOOKS_PER_LIMIT):
            self.sample(time.monotonic_ns())


def _caught(hub: Hub, task: Task[Any], mark: tuple[int, int, int], seconds: float) -> Hold | None:
    """The hold with its stack; None if it ended this moment, or nobody minds."""
    if not _others_wait(hub, task):
        return None
    holder, stack = running(hub)
    if holder is not task or mark != (hub.quota, hub.polls, task.since):
        return None
    return Hold(task, seconds, format_stack(stack))


def _others_wait(hub: Hub, task: Task[Any]) -> bool:
    """Whether anybody but ``task`` needs the hub; who only waits for its end doesn't."""
    mine = 0 if task is hub.main else 1
    if len(hub.workers) - len(hub.idle_workers) > mine:
        return True
    if hub.ready or hub.stealable or hub.inbox or len(hub.timers) > 0:
        return True
    if mine and getattr(hub.main.wait, "target", None) is not task:
        return True
    return bool(detached_of(hub))


def watchdog(limit: float = 0.1, report: Callable[[Hold], object] | None = None) -> Watchdog:
    """Report every task that holds its hub for more than ``limit`` seconds without parking.

    While it does, no other task of that hub runs. Each report is a ``Hold`` (task, seconds, stack),
    logged as a warning to ``logging.getLogger("greenpump.watchdog")``, or given to ``report``,
    which is called in the watchdog's thread. A hold that goes on is reported again after 2, 4, 8
    times ``limit`` and so on. A task that is alone on its hub keeps nobody waiting and is not
    reported.

    Costs the hubs nothing; the watchdog's own thread wakes up four times per ``limit``. Use it as a
    context manager or call ``stop()``; it never keeps the process alive. A child made by ``fork``
    has its own. Not seen: code in C that keeps the GIL for the whole hold, and a task that
    computes between I/O calls none of which has to wait. Doesn't park. Raises ValueError for a
    limit that is not positive. Source: asyncio's slow_callback_duration, gevent's monitor thread.
    """
    dog = Watchdog(limit, log if report is None else report)
    dog.start()
    return dog


_started: set[Watchdog] = set()


def _after_fork_in_child() -> None:
    for dog in _started:
        dog.start()


os.register_at_fork(after_in_child=_after_fork_in_child)
