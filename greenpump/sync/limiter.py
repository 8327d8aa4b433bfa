"""RateLimiter: so many events a second, by a token bucket.

    api = gp.RateLimiter(10, burst=20)      # ten requests a second; twenty after a pause

    def fetch(url: str) -> Page:
        api.wait()
        return load(url)

Invariants
----------
1. The bucket held ``_tokens`` at the time ``_at`` and has gained ``_limit`` a second since, at most
   up to ``_burst`` while nobody stands in line. Both change only when tokens are taken or given
   back or the limit changes; so asking in vain, however often, adds no rounding errors.
2. Requests that could not be served at once stand in ``_line``: tasks that wait, and reservations.
   Each gets its tokens when the bucket holds enough for it and for all before it, so nobody is
   overtaken. They are not taken earlier: who leaves the line costs those behind him nothing.
3. Nobody need run for that. Whoever uses the limiter first grants what has become due since, each
   at its time (``_settle``); and each task that waits has a deadline for when that would be.
4. When somebody leaves the line, those behind are due sooner than they thought. Only the first of
   them need know: it is woken to look anew, and when it is served, so is the next, if need be.
5. Who stands in line could be served before his deadline when he came. So a crowd of more than the
   limit allows is told at once, not after a wait that couldn't have helped (x/time/rate's rule).
6. All fields change only under ``_lock``. Nobody parks, wakes or calls anything of the user's while
   holding it. Who sets ``parked`` from True to False has claimed the task.

Rejected: taking the tokens when the wait begins and sleeping until they are there (x/time/rate: who
gives up leaves a hole that nobody fills, since those behind have their times already); a task that
refills the bucket (it runs when nobody wants anything); the line of ``waiters.py`` (here time lets
the first in, and there are reservations in it, for which nobody waits).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from operator import index
from threading import Lock
from typing import Any

from ..hub.local import this_hub
from ..hub.scope import Scope
from ..hub.task import NOBODY, Task
from ..hub.timers import FAR
from ..hub.wait import wake


class RateLimiter:
    """Lets ``limit`` events a second happen (a float), and up to ``burst`` at once after a pause.

    ``wait`` parks until an event may happen, ``allow`` tells whether it may right now, ``reserve``
    when. It starts with ``burst`` tokens. Served in the order of coming, also when an event takes
    several tokens. A limit of 0 adds none, ``math.inf`` lets everything pass. Usable from tasks of
    any hub and from any thread; the time is that of the caller's hub.

    Raises ValueError for a negative limit, NaN, or a burst below 1. Source: golang.org/x/time/rate.
    """

    __slots__ = (
        "__weakref__",
        "_at",
        "_burst",
        "_limit",
        "_line",
        "_lock",
        "_queued",
        "_tokens",
        "_waiting",
    )

    def __init__(self, limit: float, burst: int = 1) -> None:
        self._limit = _limit(limit)
        self._burst = _burst(burst)
        self._tokens = float(self._burst)
        self._at = _now()
        self._lock = Lock()
        self._line: OrderedDict[_Request, None] = OrderedDict()
        self._waiting: OrderedDict[_Request, None] = OrderedDict()  # those of the line with a task
        self._queued = 0  # the sum of what the line wants

    def allow(self, n: int = 1) -> bool:
        """Whether ``n`` events may happen now; if so they are counted. Doesn't park.

        Never while others stand in line. False for more than ``burst``. Raises ValueError for a
        negative ``n``.
        """
        return self._try(n if type(n) is int and n >= 0 else _amount(n))

    def wait(self, n: int = 1) -> None:
        """Park until ``n`` events may happen; they are counted then.

        In a scope whose deadline comes before its turn, as things stand, it doesn't wait in vain:
        the scope ends now as it would at its deadline (a TimeoutError of ``timeout``, the quiet end
        of ``move_on_after``), and nobody stands in line for nothing. Not while the limit is 0:
        when that will change can't be known.

        Raises ValueError for more than ``burst``, which could never be, or a negative ``n``;
        Cancelled, in which case none were counted, and those behind are served sooner.
        """
        n = self._possible(n)
        hub = this_hub()
        # Law 7: one that never has to wait is charged, too. Before anything is taken, since the
        # yield may raise Cancelled.
        hub.quota = quota = hub.quota - 1
        if quota < 0 and hub.current is not NOBODY:
            hub.yield_now()
        if self._try(n):
            return
        task = hub.prepare()
        request = _Request(self, n, task)
        try:
            self._join(request)
            if task.scope is not None:
                self._end_in_vain(request, task.scope)
            while not self._granted(request):
                task = hub.prepare()
                if self._about_to_park(request):
                    hub.wait(task, request, request.deadline)
        except BaseException:
            self._leave(request, hub.timers.clock(), give_back=True)
            raise

    def reserve(self, n: int = 1) -> Reservation:
        """Take ``n`` tokens as soon as it is this reservation's turn; see there. Doesn't park.

        Raises ValueError for more than ``burst``, which could never be, or a negative ``n``.
        """
        request = _Request(self, self._possible(n), None)
        self._join(request)
        return Reservation(request)

    @property
    def limit(self) -> float:
        """Events a second. Set it at any time: those in line go by the new one. Doesn't park."""
        return self._limit

    @limit.setter
    def limit(self, limit: float) -> None:
        self._change(_limit(limit), None)

    @property
    def burst(self) -> int:
        """How many tokens the bucket holds at most. To be set at any time.

        Those in line get what they asked for, also if that is more than the new one.
        """
        return self._burst

    @burst.setter
    def burst(self, burst: int) -> None:
        self._change(None, _burst(burst))

    @property
    def tokens(self) -> float:
        """How many tokens there are now; negative when those in line want more. Doesn't park."""
        now = _now()
        with self._lock:
            # As if those in line that are due had been served: it comes to the same.
            return min(self._held(now) - self._queued, float(self._burst))

    def __repr__(self) -> str:
        line = f", {len(self._line)} in line" if self._line else ""
        return (
            f"<RateLimiter at {id(self):#x}: {self._limit:g} a second, burst {self._burst}{line}>"
        )

    # -- the bucket; under the lock --------------------------------------------------------------

    def _held(self, now: int) -> float:
        """How many tokens there are, those in line not counted, and without a cap."""
        if self._limit == math.inf:
            return float(self._burst + self._queued)
        return self._tokens + max(0, now - self._at) * self._limit / 1e9

    def _when(self, amount: float) -> int:
        """When the bucket holds ``amount``."""
        missing = amount - self._tokens
        if missing <= 0 or self._limit == math.inf:
            return self._at
        if not self._limit or (wait := missing * 1e9 / self._limit) >= FAR - self._at:
            return FAR
        return self._at + math.ceil(wait)

    def _begin(self, now: int) -> None:
        """Nobody stands in line: from now on the cap is no matter."""
        self._tokens = min(self._held(now), float(self._burst))
        self._at = max(now, self._at)

    def _take(self, request: _Request) -> None:
        """Take a request out of the line."""
        del self._line[request]
        self._waiting.pop(request, None)
        self._queued -= request.n

    def _settle(self, now: int) -> list[Task[Any]]:
        """Grant what is due; whom to wake."""
        woken = []
        while self._line:
            first = next(iter(self._line))
            if self._when(first.n) > now:
                break
            self._take(first)
            if self._limit != math.inf:
                self._tokens -= first.n
            first.granted = True
            if first.claim():
                woken.append(first.task)
        if self._waiting:
            first = next(iter(self._waiting))
            if self._turn(first) < first.deadline and first.claim():
                woken.append(first.task)
        return woken  # type: ignore[return-value]  # reservations never park

    def _turn(self, request: _Request) -> int:
        """When a request in line will be granted, as things stand."""
        if next(reversed(self._line)) is request:
            return self._when(self._queued)
        amount = 0
        for each in self._line:
            amount += each.n
            if each is request:
                break
        return self._when(amount)

    # -- operations ------------------------------------------------------------------------------

    def _possible(self, n: int) -> int:
        n = _amount(n)
        if n > self._burst and self._limit != math.inf:
            raise ValueError(f"{n} tokens at once are never there: {self!r}")
        return n

    def _try(self, n: int) -> bool:
        if self._limit == math.inf:
            return True
        now = this_hub().timers.clock()
        woken = None
        free = False
        with self._lock:
            if self._line:
                woken = self._settle(now)
            if not self._line and n <= self._burst:
                # ``_begin``, written out: this is what a limiter does most of the time.
                held = self._tokens
                if now > self._at:
                    held += (now - self._at) * self._limit / 1e9
                    if held > self._burst:
                        held = float(self._burst)
                # Near a whole token ``_when``, which is never below it by rounding, has the word.
                free = held >= n or self._when(n) <= now
                if free:
                    self._tokens = held - n if held > n else 0.0
                    if now > self._at:
                        self._at = now
        if woken:
            for task in woken:
                wake(task)
        return free

    def _join(self, request: _Request) -> None:
        now = _now()
        with self._lock:
            woken = self._settle(now)
            if not self._line:
                self._begin(now)
            self._line[request] = None
            self._queued += request.n
            if request.task is not None:
                self._waiting[request] = None
            else:
                woken += self._settle(now)
        for task in woken:
            wake(task)

    def _granted(self, request: _Request) -> bool:
        now = _now()
        with self._lock:
            woken = self._settle(now)
        for task in woken:
            wake(task)
        return request.granted

    def _end_in_vain(self, request: _Request, scope: Scope) -> None:
        """Cancel the scope whose deadline ``request`` would only wait for, if there is one."""
        limit = scope.earliest()
        if limit == FAR:
            return
        with self._lock:
            if request.granted or not limit < (turn := self._turn(request)) < FAR:
                return
        # The outermost, as at the deadline; what a hook has is its scope's.
        around: Scope | None = scope
        while around is not None:
            if around.deadline == limit:
                scope = around
            around = None if around.shielded else around.parent
        scope.cancel(
            f"{request.n} tokens of {self!r} come {(turn - limit) / 1e9:.3f} s after the end "
            f"of the time limit of {scope.seconds} s"
        )

    def _about_to_park(self, request: _Request) -> bool:
        """Find out until when; False if it was granted meanwhile."""
        with self._lock:
            if request.granted:
                return False
            # The last one's turn is known at once. One between that looks again need not know its
            # own (it would have to go through the line): as the first it is told.
            ends = (next(iter(self._waiting)), next(reversed(self._line)))
            request.deadline = self._turn(request) if request in ends else FAR
            request.parked = True
        return True

    def _delay(self, request: _Request) -> float:
        now = _now()
        with self._lock:
            woken = self._settle(now)
            turn = now if request not in self._line else self._turn(request)
        for task in woken:
            wake(task)
        return math.inf if turn == FAR else max(0, turn - now) / 1e9

    def _leave(self, request: _Request, now: int, give_back: bool = False) -> bool:
        """Stand in line no longer; whether that came before the turn."""
        with self._lock:
            woken = self._settle(now)
            waited = request in self._line
            if waited:
                request.parked = False
                self._take(request)
            elif (
                give_back and request.granted
            ):  # something else was raised before the task saw its tokens
                self._tokens += request.n
            if not self._line:
                self._begin(now)
            woken += self._settle(now)
        for task in woken:
            wake(task)
        return waited

    def _change(self, limit: float | None, burst: int | None) -> None:
        now = _now()
        with self._lock:
            woken = self._settle(now)
            if self._line:
                self._tokens = self._held(now)
                self._at = max(now, self._at)
            else:
                self._begin(now)
            if limit is not None:
                self._limit = limit
            if burst is not None:
                self._burst = burst
                if not self._line:
                    self._tokens = min(self._tokens, float(burst))
            woken += self._settle(now)
        for task in woken:
            wake(task)


class Reservation:
    """Tokens that will be there in ``delay()`` seconds. Made by ``RateLimiter.reserve``.

    Whoever holds it keeps to that himself (``sleep(reservation.delay())``), or calls ``cancel``.
    Usable from any task and thread. Source: Reservation of golang.org/x/time/rate.
    """

    __slots__ = ("_request",)

    def __init__(self, request: _Request) -> None:
        self._request = request

    def delay(self) -> float:
        """In how many seconds the events may happen; 0.0 from then on. Doesn't park.

        It gets less by itself when somebody before it leaves the line, and ``math.inf`` while the
        limit is 0.
        """
        return self._request.limiter._delay(self._request)

    def cancel(self) -> bool:
        """Give the tokens back to those behind; False if the time had come. Doesn't park."""
        return self._request.limiter._leave(self._request, _now())

    def __repr__(self) -> str:
        return f"<Reservation of {self._request.n}: due in {self.delay():.3f} s>"


class _Request:
    """A place in the line: a task's, whose wait it is, or a reservation's."""

    __slots__ = ("deadline", "granted", "limiter", "n", "parked", "task")

    def __init__(self, limiter: RateLimiter, n: int, task: Task[Any] | None) -> None:
        self.limiter = limiter
        self.n = n
        self.task = task
        self.granted = False
        self.parked = False
        self.deadline = FAR

    def claim(self) -> bool:
        """Whether the task parks, and is the caller's now to wake. Under the lock."""
        parked, self.parked = self.parked, False
        return parked

    def abandon(self, task: Task[Any]) -> bool:
        with self.limiter._lock:
            return self.claim()

    def reason(self, task: Task[Any]) -> str:
        return f"wait for {self.n} tokens of {self.limiter!r}"


def _now() -> int:
    return this_hub().timers.clock()


def _limit(limit: float) -> float:
    if limit >= 0:
        return float(limit)
    raise ValueError(f"a limit in events a second must be 0 or above: {limit!r}")


def _burst(burst: int) -> int:
    if index(burst) >= 1:
        return index(burst)
    raise ValueError(f"a burst must be at least 1: {burst!r}")


def _amount(n: int) -> int:
    if index(n) >= 0:
        return index(n)
    raise ValueError(f"a number of tokens must not be negative: {n!r}")
