"""Singleflight: of many who want the same at once, one call is made, and all get what it gives.

    cache_misses = gp.Singleflight()

    def profile(user: str) -> Profile:
        return cache_misses.do(user, load_profile, user)    # one query, however many ask

Invariants
----------
1. The call is a task of its own, the *flight*. Whoever asks waits for its end, the one who started
   it as well: so each can be cancelled alone, and the flight goes on for the others.
2. ``_flights`` holds the one flight of a key that newcomers join. It is taken out by ``forget``, or
   by the flight itself before anybody can learn of its end: who asks afterwards gets a new call.
3. A flight can end without having taken itself out, when its hub ends before it started. So who
   finds one that has ended starts another in its place.
4. Who waits for a flight that was cancelled with its hub tries again, and starts one at home. Who
   started it is told: so each caller starts one flight at most, and nobody goes round for ever.

Rejected: running the call in the first caller (its timeout would be everybody's, and a cancel would
leave the others with nothing); cancelling the flight when all have left (the next one may come at
any moment, and what it does is often the filling of a cache).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from sys import _getframe
from threading import RLock
from types import FrameType, TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

from ..hub.interrupt import calls_user_code
from ..hub.local import this_hub
from ..hub.spawning import spawn
from ..hub.task import Task

P = ParamSpec("P")
T = TypeVar("T")


class Singleflight:
    """Suppresses calls for a key while one for it is under way.

    Usable from tasks of any hub and from any thread. Keys are hashable; nothing is kept of a call
    that has ended, so this is no cache. Source: golang.org/x/sync/singleflight.
    """

    __slots__ = ("__weakref__", "_flights", "_lock")

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[Any]] = {}
        # Reentrant, since a key's own __eq__ is called while it is held.
        self._lock = RLock()

    def do(self, key: Hashable, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``fn(*args, **kwargs)``, or join the call for ``key`` under way; return its value.

        The call runs as a task of the first caller's hub, with a copy of that one's context. All
        get the same object, or the same error raised. Parks. A caller that is cancelled leaves; the
        call goes on, and its error goes to ``greenpump.excepthook`` if everybody has left.

        Raises what ``fn`` raises; Cancelled; TypeError when ``fn`` is not callable or ``key`` not
        hashable; RuntimeError in the call itself, which would wait for its own end.
        """
        return self._fly(key, fn, args, kwargs, _getframe(1))[0]

    def do_shared(
        self, key: Hashable, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> tuple[T, bool]:
        """As ``do``, but return the value and whether others were given it, too.

        Who changes the value should copy it first then.
        """
        value, flight = self._fly(key, fn, args, kwargs, _getframe(1))
        return value, flight.callers > 1

    def forget(self, key: Hashable) -> None:
        """Have the next ``do`` of ``key`` make a new call, though one is under way. Doesn't park.

        Who has joined that one gets its value.
        """
        with self._lock:
            self._flights.pop(key, None)

    def __len__(self) -> int:
        """How many calls are under way that can be joined."""
        return len(self._flights)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Singleflight at {id(self):#x}: {len(self._flights)} under way>"

    def _fly(
        self,
        key: Hashable,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        caller: FrameType,
    ) -> tuple[T, _Flight[T]]:
        if not callable(fn):
            raise TypeError(f"Singleflight.do needs a callable, not {fn!r}")
        this_hub().prepare()  # a caller that is cancelled already starts nothing
        while True:
            flight: _Flight[T]
            with self._lock:
                found = self._flights.get(key)
                started = found is None or found.task.done
                if started:
                    flight = _Flight(self, key)
                    name = f"{getattr(fn, '__qualname__', type(fn).__name__)} for {key!r}"
                    flight.task = spawn(fly, flight, fn, args, kwargs)
                    flight.task.name = name
                    flight.task.site = (caller.f_code, caller.f_lasti)
                    self._flights[key] = flight
                else:
                    flight = found  # type: ignore[assignment]
                flight.callers += 1
            error = flight.task.exception()
            if error is None:
                return flight.task.result(), flight
            if started or not flight.task.cancelled:
                try:
                    raise flight.as_it_was(error)
                finally:
                    del error, flight, found  # the traceback holds this frame


class _Flight(Generic[T]):
    """One call under way."""

    __slots__ = ("_traceback", "callers", "group", "key", "task")
    task: Task[T]
    _traceback: TracebackType | None

    def __init__(self, group: Singleflight, key: Hashable) -> None:
        self.group = group
        self.key = key
        self.callers = 0

    def as_it_was(self, error: BaseException) -> BaseException:
        """``error``, which each caller raises in turn, without what the others' raises added."""
        if error is self.task.error:
            with self.group._lock:
                if not hasattr(self, "_traceback"):
                    self._traceback = error.__traceback__
            error.__traceback__ = self._traceback
        return error


@calls_user_code
def fly(
    flight: _Flight[T], fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> T:
    """The flight's task. No method: a task keeps its function, which would keep the task."""
    try:
        return fn(*args, **kwargs)
    finally:
        group, key = flight.group, flight.key
        with group._lock:
            if group._flights.get(key) is flight:
                del group._flights[key]
        del flight, fn, args, kwargs  # an error's traceback holds this frame
