"""Timer, Ticker, after, spawn_later: what happens at a time, with no task or thread that waits.

    timer = gp.Timer(5.0)
    match gp.select(gp.receiving(jobs), timer):
        case 0, job:
            timer.reset(5.0)         # no stale time is left in it
        case 1, _:
            print("nothing to do for five seconds")

Invariants
----------
1. A timer is a time (``_when``, None once stopped or received), not an entry of a heap: only who
   waits for it has one, its seat, on its *own* hub. So a pending timer that nobody waits for costs
   nothing, keeps nothing alive, and is due whether the hub that set it runs or not.
2. ``_when`` changes only inside the latch. With the GIL that is one for all timers: a Lock for each
   was half of what a hundred thousand cost, since the collector looks at it, too.
3. There is one value: it is ``_when`` itself, and who takes it sets the next, inside the latch. So
   it can't be stale: after ``stop`` or ``reset`` there is nothing left of the time before. (Go 1.23
   gave its timers' channels these rules, and took those nobody waits for out of the heap, too.)
4. The seat's deadline *is* the timer's time, read anew whenever its entry is looked at. A timer set
   later, or stopped, leaves the entries alone (``hub/timers.py``, invariant 2); one set sooner has
   each seat's hub enter it again.
5. A seat's entry, ``timer_at``, is touched only by the thread of its hub.
6. A due time goes to the first in ``_waiting`` whose select accepts it, whichever hub saw it first.

A task that ``spawn_later`` made is its own entry until it starts. It stands in no run queue then,
and a cancel ends it on the spot.

Rejected: a task per timer (a stack for each, and a race between its wake-up and ``stop``); an entry
for every pending timer on the hub that set it (``after(60)`` in a loop of selects would fill the
heap, as in Go before 1.23, and the timers of a thread that computes would be late for everybody);
a buffered channel that the hub fills (``stop`` must then empty it again).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextvars import copy_context
from sys import _getframe
from threading import Lock
from typing import Any, Final, ParamSpec, Self, TypeVar, overload

from ..hub.local import hub_or_none, this_hub
from ..hub.task import Task, new_task
from ..hub.timers import FAR
from ..hub.wait import wake
from .cases import Case, Selection
from .channel import NOTHING
from .event import Event
from .latch import TIMERS, Latch, enters_latch, held_up, latched, own_latch
from .select import select

P = ParamSpec("P")
T = TypeVar("T")
D = TypeVar("D")


class _Clockwork(Case):
    """What Timer and Ticker share: a time to be received, in any select a case of its own."""

    __slots__ = ("__weakref__", "_latch", "_waiting", "_when")

    # Each sets them itself: a call saved is a fifth of what setting a timer costs.
    _latch: Latch
    _waiting: OrderedDict[_Seat, None] | None  # made by the first that waits
    _when: int | None

    def recv(self) -> float:
        """The time it was due, in seconds on the scale of ``time.monotonic``; parks until then.

        One that is stopped is waited for until somebody resets it. Of several tasks that wait the
        first gets the time. Raises Cancelled, in which case the time was not taken.
        """
        return select(self)[1]  # type: ignore[no-any-return]

    @overload
    def try_recv(self) -> float | None: ...
    @overload
    def try_recv(self, default: D) -> float | D: ...
    def try_recv(self, default: Any = None) -> Any:
        """As ``recv``, but ``default`` if it is not due yet. Doesn't park."""
        value, _ = self.proceed()
        return default if value is NOTHING else value

    def _tell(self) -> None:
        """It was set anew while somebody waits for it."""
        receiver, seats = latched(self._latch, self._look, this_hub().timers.clock())
        if receiver is not None:
            wake(receiver)
        for seat in seats:
            seat.enter_anew()

    # -- inside the latch --------------------------------------------------------------------------

    def _look(self, now: int) -> tuple[Task[Any] | None, list[_Seat]]:
        """Whom to wake, since it may be due already; and who waits besides."""
        return self._give_first(now), list(self._waiting or ())

    def _set(self, when: int | None) -> int | None:
        """Set the time; the one before."""
        before, self._when = self._when, when
        return before

    def _taken(self, when: int, now: int) -> None:
        """``when`` has been received: set the next time."""
        raise NotImplementedError

    def _take(self, now: int) -> tuple[int | None, Task[Any] | None]:
        """Take the time, if it is due, and whom to wake."""
        # Those who wait are first, though their hubs may not have looked yet.
        receiver = self._give_first(now) if self._waiting else None
        when = self._when
        if when is None or when > now:
            return None, receiver
        self._taken(when, now)
        return when, receiver

    def _give(self, seat: _Seat, now: int) -> bool:
        """Give the time to a select, if it is due; whether it took it."""
        when = self._when
        if when is None or when > now or not seat.selection.claim(seat.number, when / 1e9):
            return False
        self._taken(when, now)
        return True

    def _give_first(self, now: int) -> Task[Any] | None:
        """Give a due time to the first in line that accepts it: whom to wake."""
        waiting = self._waiting
        while waiting and self._when is not None and self._when <= now:
            seat, _ = waiting.popitem(False)
            if self._give(seat, now):
                return seat.selection.task
        return None

    def _join(self, seat: _Seat, now: int) -> Task[Any] | None:
        """Stand in line: whom to wake, since it may have come due since ``ready``."""
        if self._waiting is None:
            self._waiting = OrderedDict()
        self._waiting[seat] = None
        return self._give_first(now)

    def _leave(self, seat: _Seat) -> None:
        if self._waiting is not None:
            self._waiting.pop(seat, None)

    # -- select's way in -------------------------------------------------------------------------

    def ready(self) -> bool:
        when = self._when
        return when is not None and when <= this_hub().timers.clock()

    def proceed(self) -> tuple[Any, Task[Any] | None]:
        when, receiver = latched(self._latch, self._take, this_hub().timers.clock())
        if receiver is not None:
            wake(receiver)
        return NOTHING if when is None else when / 1e9, None

    def joined(self, selection: Selection, number: int) -> _Seat:
        seat = _Seat(self, selection, number)
        receiver = latched(self._latch, self._join, seat, selection.task.hub.timers.clock())
        if receiver is not None:
            wake(receiver)
        try:
            seat.enter()
        except BaseException:
            self.left(seat)  # nobody else knows of it yet
            raise
        return seat

    def left(self, seat: _Seat) -> None:
        latched(self._latch, self._leave, seat)
        if seat.timer_at != FAR:
            seat.selection.task.hub.timers.disarm(seat)

    def _state(self) -> str:
        when = self._when
        if when is None:
            return "stopped"
        left = when - this_hub().timers.clock()
        return "due" if left <= 0 else f"due in {left / 1e9:.3f} s" if when != FAR else "never due"


class _Seat:
    """A select that waits for a timer, and its entry in the heap of its hub (timers.Timed)."""

    __slots__ = ("number", "selection", "timer", "timer_at")

    def __init__(self, timer: _Clockwork, selection: Selection, number: int) -> None:
        self.timer = timer
        self.selection = selection
        self.number = number
        self.timer_at = FAR

    @property
    def deadline(self) -> int:
        when = self.timer._when
        return FAR if when is None else when

    def timed_out(self) -> None:
        """On the root of the select's hub: it is due, unless another thread has just moved it."""
        timer = self.timer
        now = self.selection.task.hub.timers.clock()
        task = latched(timer._latch, timer._give_first, now)
        if task is not None:
            wake(task)
        self.enter()

    def enter_anew(self) -> None:
        """The time has changed, on any thread: have the select's hub look at it."""
        hub = self.selection.task.hub
        if hub_or_none() is hub:
            self.enter()
        else:
            hub.post(self.enter)

    def enter(self) -> None:
        """Enter the time into the heap, if the select still waits. On its hub's thread."""
        waiting = self.timer._waiting
        if waiting is not None and self in waiting:  # once it has left, it never is
            self.selection.task.hub.timers.arm(self, self.deadline)


class Timer(_Clockwork):
    """Becomes receivable once, ``seconds`` from now (a float; ``math.inf``: never).

    ``recv`` waits for it, and ``select`` takes it as a case whose value is the time it was due.
    Usable from tasks of any hub and from any thread. Setting and stopping one touches no heap and
    no kernel object; there is nothing to close, and one that is forgotten is garbage.

    Raises ValueError for a negative number or NaN. Source: Go's time.Timer, by its rules of 1.23.
    """

    __slots__ = ()

    def __init__(self, seconds: float) -> None:
        self._when = this_hub().timers.after(seconds)
        self._latch = TIMERS or own_latch()
        self._waiting = None

    @enters_latch
    def stop(self) -> bool:
        """Make it not fire; whether that came in time: nobody has received it, and nobody will.

        Doesn't park. Callable from any thread, any number of times.
        """
        enter, leave = self._latch
        try:
            enter()
        except BaseException as error:
            if not held_up(self._latch, error, self):
                return self._set(None) is not None
        try:
            before, self._when = self._when, None
        finally:
            leave()
        return before is not None

    def reset(self, seconds: float) -> bool:
        """Set it anew, ``seconds`` from now, whether it runs or not; returns what ``stop`` would.

        Who waits for it goes on waiting, for the new time. Doesn't park. Raises ValueError for a
        negative number or NaN.
        """
        before = latched(self._latch, self._set, this_hub().timers.after(seconds))
        if self._waiting:
            self._tell()
        return before is not None

    def __repr__(self) -> str:
        return f"<Timer at {id(self):#x}: {self._state()}>"

    def _taken(self, when: int, now: int) -> None:
        self._when = None


class Ticker(_Clockwork):
    """Becomes receivable every ``seconds`` (a float above 0), the first time after as many.

    ``for now in ticker:`` goes round at each tick, until somebody stops it. Who is late gets one
    tick, at once, and those it missed are dropped; the next comes when it would have come anyway,
    so it never drifts. A tick goes to one of those who wait. As Timer in all else.

    Raises ValueError for what is not above zero, and for NaN. Source: Go's time.Ticker, whose loops
    however go on to wait when it is stopped.
    """

    __slots__ = ("_changing", "_period", "_stopped")

    def __init__(self, seconds: float) -> None:
        self._when, self._period = _first_tick(seconds)
        self._latch = TIMERS or own_latch()
        self._waiting = None
        self._stopped = Event()
        self._changing = Lock()  # held by stop and reset: one of them is the last in all respects

    def stop(self) -> bool:
        """No more ticks, and the loops over it end; whether it ran. Doesn't park."""
        with self._changing:
            before = latched(self._latch, self._set, None)
            self._stopped.set()
        return before is not None

    def reset(self, seconds: float) -> bool:
        """Tick every ``seconds`` from now on; whether it ran. Doesn't park. Raises ValueError."""
        first, period = _first_tick(seconds)
        with self._changing:
            before = latched(self._latch, self._begin, first, period)
            self._stopped.clear()
        if self._waiting:
            self._tell()
        return before is not None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> float:
        """As ``recv``, but ``stop`` ends the iteration."""
        which, value = select(self, self._stopped)
        if which == 1:
            raise StopIteration
        return value  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<Ticker at {id(self):#x}: every {self._period / 1e9:g} s, {self._state()}>"

    def _begin(self, first: int, period: int) -> int | None:
        self._period = period
        return self._set(first)

    def _taken(self, when: int, now: int) -> None:
        period = self._period
        self._when = when + period * (1 + (now - when) // period)


def _first_tick(seconds: float) -> tuple[int, int]:
    """When a ticker ticks first, and its period in nanoseconds."""
    first = this_hub().timers.after(seconds)
    if seconds == 0:
        raise ValueError("a ticker's period must be above 0 s")
    return first, FAR if first == FAR else max(1, int(seconds * 1_000_000_000))


def after(seconds: float) -> Timer:
    """A Timer to receive from once: ``select(receiving(jobs), after(1.0))``. Doesn't park.

    (For a limit on a select, ``timeout=`` costs less.) Raises ValueError for a negative number or
    NaN. Source: Go's time.After.
    """
    return Timer(seconds)


class _Later:
    """The wait of a task that has not started yet."""

    __slots__ = ()

    def abandon(self, task: Task[Any]) -> bool:
        """Its time has come, and it gets ready as any task that has not started yet."""
        task.wait = None
        task.deadline = FAR
        task.hub.ready.append(task)
        return False  # nothing is left for the caller to do

    def reason(self, task: Task[Any]) -> str:
        left = task.deadline - task.hub.timers.clock()
        return f"not started: due in {max(left, 0) / 1e9:.3f} s"


_LATER: Final = _Later()


def spawn_later(
    seconds: float, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> Task[T]:
    """Start a task that calls ``fn(*args, **kwargs)`` in ``seconds``, and return its handle now.

    As ``spawn`` in all else: it starts on this thread's hub, with a copy of the context of now.
    ``cancel`` before its time makes it never start. Until then it is an entry in the hub's heap and
    has no stack. When its program ends first it is cancelled. Doesn't park.

    Raises ValueError for a negative number, NaN, or a time that never comes; TypeError when ``fn``
    is not callable. From a signal handler ``spawn`` a task that does it. Source: Go's
    time.AfterFunc, gevent.spawn_later.
    """
    if not callable(fn):
        raise TypeError(f"spawn_later needs a callable, not {fn!r}")
    hub = this_hub()
    when = hub.timers.after(seconds)
    if when == FAR:
        raise ValueError(f"a task can't start in {seconds!r} s: that is never")
    frame = _getframe(1)
    site = (frame.f_code, frame.f_lasti)
    task = new_task(hub, fn, args, kwargs or None, copy_context(), site)
    task.deadline = when
    task.wait = _LATER
    hub.timers.arm(task, when)
    return task
