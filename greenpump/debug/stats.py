"""stats: how much is going on in each hub, in numbers.

Nothing is counted for it while the hubs run; what can be known is derived when somebody asks. So
the cost, a few dozen nanoseconds for each registered fd and each ready task, is the asker's; and a
number may be one off when a hub of another thread is busy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..hub.local import hubs
from ..hub.pollable import VACANT
from ..hub.task import NOBODY
from .look import detached_of, steady

if TYPE_CHECKING:
    from ..hub.hub import Hub


@dataclass(frozen=True, slots=True)
class HubStats:
    """One hub. ``tasks`` is ``running + ready + parked + unstarted``, the main task included."""

    thread: str
    """The name of its thread."""
    tasks: int
    """Tasks that have not ended."""
    running: int
    """1 while a task executes, 0 while the hub sleeps or schedules."""
    ready: int
    """Started tasks that stand in the run queue."""
    parked: int
    """Tasks that wait for something."""
    unstarted: int
    """Spawned tasks that have not run yet."""
    detached: int
    """Connections that wait for bytes without a task."""
    workers: int
    """Greenlets that run tasks, the idle ones included."""
    idle_workers: int
    timers: int
    """Pending timers: tasks that wait with a deadline, and timers proper."""
    fds: int
    """File descriptors registered with the hub's epoll, its own left out."""
    externals: int
    """Calls under way in other threads that will wake a task here."""
    inbox: int
    """Messages of other threads that the hub has not looked at yet."""
    polls: int
    """How often the kernel was asked since the hub was made."""
    charged: int
    """Yields, wakes and operations that did not have to wait: what law 7 charges for."""
    events: int
    """Readiness events that the kernel reported."""
    sleeping: bool
    """Whether it sleeps in the kernel."""
    load: int
    """What ``spawn_on(ANY)`` compares: tasks in line, and one for the task that runs."""


@dataclass(frozen=True, slots=True)
class Stats:
    """All hubs of this process, and their sums."""

    hubs: tuple[HubStats, ...]
    tasks: int
    detached: int
    fds: int
    load: int


def stats() -> Stats:
    """Count the tasks, timers, fds and the like of every hub in this process.

    ``dataclasses.asdict(stats())`` is ready for JSON. Doesn't park and takes no lock; callable from
    any task, thread and signal handler. Source: Go's runtime/metrics.
    """
    each = tuple(_of(hub) for hub in hubs.copy() if not hub.closed)
    return Stats(
        hubs=each,
        tasks=sum(hub.tasks for hub in each),
        detached=sum(hub.detached for hub in each),
        fds=sum(hub.fds for hub in each),
        load=sum(hub.load for hub in each),
    )


def _of(hub: Hub) -> HubStats:
    running = 0 if hub.current is NOBODY else 1
    idle_workers, workers = len(hub.idle_workers), len(hub.workers)
    started = 1 + max(0, workers - idle_workers)
    in_line = [task for task in steady(hub.ready.copy) if task is not hub.root_task]
    unstarted = sum(task.glet is None for task in in_line)
    ready = min(len(in_line) - unstarted, started - running)
    unstarted += len(hub.stealable)
    table = hub.table.copy()
    return HubStats(
        thread=hub.thread.name,
        tasks=started + unstarted,
        running=running,
        ready=ready,
        parked=started - running - ready,
        unstarted=unstarted,
        detached=detached_of(hub).total(),
        workers=workers,
        idle_workers=idle_workers,
        timers=max(0, len(hub.timers)),
        fds=max(0, len(table) - table.count(VACANT) - len(hub.wakeups)),
        externals=hub.externals,
        inbox=len(hub.inbox),
        polls=hub.polls,
        charged=hub.spent + hub.round - hub.quota,
        events=hub.events,
        sleeping=hub.sleeping,
        load=hub.load(),
    )
