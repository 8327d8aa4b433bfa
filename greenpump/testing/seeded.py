"""Seeded scheduling: a seed decides who runs next, so an interleaving that failed comes back.

    with seeded() as schedule:      # or @seeded() above a test
        ...                         # a failure carries its seed, and the line that replays it

In production the run queue is first in, first out: a test sees one interleaving of very many. Here
the next task is drawn from all that are ready, wherever one parks, ends, or yields.

Invariants
----------
1. Root stands first in the run queue while a task runs. So every park, and every end of a task,
   hands over to root, and root draws: there is one place that decides. (Law 11 of ``hub.py``: every
   park bounces through root.) A hub that is not seeded executes nothing of this.
2. What is drawn depends on the seed, the number of draws so far and the line of tasks alone. Root
   may be asked for more often, by the kernel or another thread: it is taken out of the line before
   the draw.
3. A drawn task is moved by swaps, each one instruction: a signal handler that raises, or a
   finaliser that spawns, between two of them loses no task.
4. Two walks take turns. With an even seed every ready task is as probable. With an odd one each has
   a rank, and the highest runs; one that yields falls to the end, and so does, now and then (how
   often, is the seed's), one that has done nothing wrong. So some task may be held back for very
   long, which an even draw makes as improbable as heads a hundred times in a row.
5. ``random`` and the draws of ``select`` follow the seed as well, and go on afterwards as if
   nothing had happened.

The same seed gives the same interleaving as long as the test does the same: it doesn't if it looks
at real time (use ``virtual_clock``), at other threads or processes, or at the order of a set of
strings (PYTHONHASHSEED). Tasks are interrupted where they park and at ``preemption_point``, nowhere
else: what they do in between is atomic on one hub, here as in production.

Source: Burckhardt et al., A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs
(2010), for the ranks; shuttle and loom (Rust) for the idea as a library.

Rejected: another deque class for the run queue (park, root and the workers keep it in a local);
shuffling at each poll (what is readied between two polls keeps its order); choosing where a task is
readied (a seed's draws would depend on who readies whom in bulk).
"""

from __future__ import annotations

import os
import random
import shlex
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from ..hub.hub import Hub
from ..hub.local import hub_or_none, this_hub
from ..hub.pollable import QUOTA
from ..hub.spawning import yield_now
from ..hub.task import NOBODY
from ..hub.wait import YIELD
from ..sync import select

if TYPE_CHECKING:
    from ..hub.task import Task

SEED: Final = "GREENPUMP_SEED"
"""The environment variable that replays one seed."""

FALLS: Final = (2, 10)
"""At a step of an odd seed the task drawn falls with a chance from 1/4 to 1/1024."""

TRAIL: Final = 20
"""How many of the last steps a failure names."""


class Schedule:
    """Who runs next, by a seed. Made by ``seeded``."""

    __slots__ = (
        "_bottom",
        "_falls",
        "_hub",
        "_points",
        "_random",
        "_ranks",
        "_trail",
        "seed",
        "steps",
    )

    def __init__(self, hub: Hub, seed: int) -> None:
        self.seed = seed
        """What it all comes from."""
        self.steps = 0
        """How many tasks have been drawn so far."""
        self._hub = hub
        source = random.Random(f"{seed} steps")
        self._random = source.random
        self._points = random.Random(f"{seed} points").random
        self._ranks: WeakKeyDictionary[Task[Any], float] | None
        self._ranks = WeakKeyDictionary() if seed % 2 else None
        self._bottom = 0.0
        self._falls = 0.5 ** source.randint(*FALLS)
        self._trail: deque[str] = deque(maxlen=TRAIL)

    def __repr__(self) -> str:
        return f"<Schedule of seed {self.seed}, {self.steps} steps>"

    def describe(self) -> str:
        """For people: the seed, how to replay it, and who ran last."""
        steps = ", ".join(self._trail) or "none"
        return (
            f"seed {self.seed}; to replay it: {_replay(self.seed)}\n"
            f"{self.steps} steps, the last: {steps}"
        )

    def _draw(self) -> None:
        """Put the next task first in the run queue, and root behind it. On root."""
        ready = self._hub.ready
        root = self._hub.root_task
        while root in ready:
            ready.remove(root)
        if not ready:
            return  # root sleeps now; ``_SeededHub.idle`` has it come back
        if self._ranks is None:
            place = int(self._random() * len(ready))
        else:
            place = self._highest(self._ranks)
        self.steps += 1
        self._trail.append(ready[place].name)
        ready[0], ready[place] = ready[place], ready[0]
        ready.appendleft(root)
        ready[0], ready[1] = ready[1], ready[0]

    def _highest(self, ranks: WeakKeyDictionary[Task[Any], float]) -> int:
        ready = self._hub.ready
        for task in ready:
            if task not in ranks:
                ranks[task] = self._random()
            if task.wait is YIELD:
                self._fall(ranks, task)
        place = max(range(len(ready)), key=lambda place: ranks[ready[place]])
        if self._random() < self._falls:
            self._fall(ranks, ready[place])
        return place

    def _fall(self, ranks: WeakKeyDictionary[Task[Any], float], task: Task[Any]) -> None:
        self._bottom -= 1
        ranks[task] = self._bottom


_schedules: dict[Hub, Schedule] = {}


class _SeededHub(Hub):
    """What a hub is while it is seeded: its class is swapped, all else remains."""

    __slots__ = ()

    def chores(self) -> None:
        super().chores()
        _schedules[self]._draw()

    def next_round(self, elapsed: int) -> int:
        return QUOTA  # a replay takes another time

    def idle(self) -> None:
        super().idle()
        if self.ready:
            self.ready.appendleft(self.root_task)  # to draw among what came


@contextmanager
def seeded(seed: int | None = None) -> Iterator[Schedule]:
    """``with seeded() as schedule:`` this thread's hub draws the next task by ``seed``.

    Also a decorator: ``@seeded()`` above a test. Without ``seed`` it is that of the environment
    variable GREENPUMP_SEED, or else a new one each time; an exception that leaves the block gets a
    note with the seed and the line that replays it. It works with ``virtual_clock``, either inside
    the other, and with ``wait_all_parked``. Other hubs are not seeded.

    Each step is linear in the number of ready tasks. Raises RuntimeError inside another ``seeded``,
    ValueError when GREENPUMP_SEED is no whole number. Source: shuttle's check_random (Rust).
    """
    hub = this_hub()
    if hub in _schedules:
        raise RuntimeError("this thread's hub is seeded already")
    if seed is None:
        seed = seed_asked_for()
    if seed is None:
        seed = random.SystemRandom().randrange(2**32)
    schedule = _schedules[hub] = Schedule(hub, seed)
    before = random.getstate(), select.chance.getstate()
    random.seed(f"{seed} random")
    select.chance.seed(f"{seed} select")
    hub.quota = hub.round = QUOTA  # where select yields depends on it
    hub.__class__ = _SeededHub
    hub.ready.appendleft(hub.root_task)
    try:
        yield schedule
    except BaseException as error:
        error.add_note(schedule.describe())
        raise
    finally:
        hub.__class__ = Hub
        del _schedules[hub]
        random.setstate(before[0])
        select.chance.setstate(before[1])


def preemption_point() -> None:
    """Under ``seeded``, yield or don't, by the seed; otherwise do nothing, at once.

    For code that must hold at every interleaving but has no wait at the place in question: between
    the look and the change of a lock-free structure, say. Raises Cancelled where it yields.
    """
    if not _schedules:
        return
    hub = hub_or_none()
    schedule = None if hub is None else _schedules.get(hub)
    if hub is None or schedule is None or hub.current is NOBODY:
        return
    if schedule._points() < 0.5:
        yield_now()


def seed_asked_for() -> int | None:
    """The seed in GREENPUMP_SEED, None if it is not set."""
    return number_in(SEED)


def number_in(variable: str) -> int | None:
    """The whole number in an environment variable, None if it is not set."""
    text = os.environ.get(variable, "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{variable} must be a whole number: {text!r}") from None


def _replay(seed: int) -> str:
    """The command that runs this once more, with ``seed``."""
    test = os.environ.get("PYTEST_CURRENT_TEST")
    if test is None:
        return f"{SEED}={seed} {shlex.join(sys.orig_argv)}"
    return f"{SEED}={seed} python -m pytest {shlex.quote(test.rpartition(' (')[0])}"
