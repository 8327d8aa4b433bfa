"""Task: one spawned function, from spawn to its result.

A task is not a greenlet: a worker (``worker.py``) lends it one while it runs. Identity, context,
name and result live here.

Invariants
----------
1. ``glet`` is None until the task starts; from then on the greenlet that is to be resumed for it:
   its worker's, or a greenlet the user made inside the task, if that is the one which parked last.
2. ``wait`` is not None exactly while it is parked in some place (``wait.py``).
3. ``trouble`` is None unless the last wait was abandoned: then it says why, and the task clears it
   when it resumes.
4. ``done`` goes from False to True once, on the task's own hub, after value and error are set.
5. ``arrival`` is None unless the task starts when something arrives at an fd: then it is that fd's
   pollable, in whose reader slot it stands until then. If it ``persists``, it stands there again
   each time that its function has returned (``worker.py``): still the same task, without a stack.
   It no longer persists once it is cancelled or has handed its connection over.

Rejected: a Task that subclasses greenlet (5-9 µs and 16 KiB each; §3 of docs/design.md).
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from functools import partial
from itertools import count
from threading import Lock
from types import CodeType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

from ..errors import Cancelled, TaskCancelled
from .local import FREE_THREADED, hub_or_none, this_hub
from .scope import CANCELLED, TIMED_OUT, Scope, TaskScope, tell_hooks
from .timers import FAR
from .wait import wake

if TYPE_CHECKING:
    from greenlet import greenlet

    from .hub import Hub
    from .pollable import Pollable
    from .wait import Wait

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_new: Callable[[type[Task[Any]]], Task[Any]] = object.__new__

_ids = count(1)
_joining = Lock()
_moving = Lock()
"""Held while an unstarted task gets another hub."""


class Joiner(Protocol):
    """Who wants to know of a task's end; an ``observer`` takes care of its error, too."""

    observer: bool

    def ended(self) -> None:
        """The task has ended."""


@runtime_checkable
class Locking(Protocol):
    """A joiner whose ``ended`` takes locks."""

    def renew_locks(self) -> None:
        """In the child of a fork: threads that are not there may hold them; make them anew."""


class _Hot:
    """What each switch touches, side by side in memory, next to the object's head.

    Where a slot lies is CPython's business: a base's come first, the rest is sorted by name.
    """

    __slots__ = ("glet", "hub", "scope", "since", "trouble", "wait")


class _Arrival(_Hot):
    """And next to it what each call of a task that persists touches, too."""

    __slots__ = ("args", "arrival", "fn", "persists")


class Task(_Arrival, Generic[T_co]):
    """The handle of a spawned function.

    Made by ``spawn`` and its kin, never directly. Usable from any task of any hub and from any
    thread. Source: gevent.Greenlet, concurrent.futures.Future.
    """

    __slots__ = (
        "__weakref__",
        "_joiners",
        "_name",
        "_value",
        "context",
        "deadline",
        "done",
        "error",
        "id",
        "kwargs",
        "site",
        "timer_at",
    )

    # What stands here is set by ``new_task``: a plain function is called without the C frame that
    # type.__call__ nests, which a spawn would pay for.
    args: Any
    arrival: Pollable | None
    context: Context | None
    deadline: int
    done: bool
    fn: Callable[..., T_co] | None
    glet: greenlet | None
    hub: Hub
    kwargs: dict[str, Any] | None
    persists: bool
    scope: Scope | None
    since: int
    site: tuple[CodeType, int] | None
    timer_at: int
    trouble: object | None
    wait: Wait | None
    _joiners: dict[Joiner, None] | None
    _value: T_co
    error: BaseException | None

    def __init__(self) -> None:
        raise TypeError("a Task is made by greenpump.spawn and its kin")

    # -- for everybody ---------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """A name for people; by default the function's, with a number of its own."""
        try:
            return self._name
        except AttributeError:
            self._name: str = f"{label(self.fn)}#{next(_ids)}"
            return self._name

    @name.setter
    def name(self, value: str) -> None:
        self._name = value

    @property
    def cancelled(self) -> bool:
        """True when the task has ended because it was cancelled."""
        return self.done and isinstance(self.error, Cancelled)

    def join(self, timeout: float | None = None) -> bool:
        """Park until the task has ended, however it ended; its error is not raised here.

        ``timeout`` is in seconds. Returns whether the task has ended. Raises Cancelled if the
        *caller* is cancelled, RuntimeError when a task would wait for itself.
        """
        if not self.done:
            self._await_end(timeout, observer=False)
        return self.done

    def result(self, timeout: float | None = None) -> T_co:
        """Park until the task has ended; return what its function returned or raise its error.

        ``timeout`` is in seconds. Raises TimeoutError when it passes first, TaskCancelled when the
        task was cancelled, Cancelled when the caller is.
        """
        error = self.exception(timeout)
        if error is not None:
            try:
                raise error
            finally:
                del self, error  # the error's traceback holds this frame
        return self._value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Park until the task has ended; return its error, or None if it has none.

        Raises TimeoutError when ``timeout`` seconds pass first, Cancelled when the caller is
        cancelled. For a task that was cancelled it returns a TaskCancelled.
        """
        if not self.done and not self._await_end(timeout, observer=True):
            raise TimeoutError(f"task {self.name} has not ended within {timeout} s")
        error = self.error
        if isinstance(error, Cancelled) and not isinstance(error, TaskCancelled):
            cancelled = TaskCancelled(f"task {self.name} was cancelled")
            cancelled.__cause__ = error.__cause__
            return cancelled
        return error

    def cancel(self, reason: str | BaseException = "") -> None:
        """Ask the task to end: from now on every park in it raises Cancelled.

        ``reason`` is what that says, an error its ``__cause__``, too (``Scope.cancel``).

        Doesn't park, and doesn't wait for the end (``join`` does). A task that never started never
        will; one that has ended is left alone. Callable from any thread, any number of times.
        """
        if self.done:
            return
        if self.glet is None and self.wait is None and self.hub.fleet:
            self._stay()  # one that spawn_later keeps waiting is nobody else's to take
        hub = hub_or_none()
        if hub is self.hub:
            self._cancel(reason)
        else:
            self.hub.post(_Cancel(self, reason))

    def spawned_at(self) -> str:
        """``file:line in function`` of the spawn, for people."""
        if self.site is None:
            return "(unknown)"
        code, lasti = self.site
        line = code.co_firstlineno
        for start, end, number in code.co_lines():
            if start <= lasti < end and number is not None:
                line = number
        return f"{code.co_filename}:{line} in {code.co_qualname}"

    def __repr__(self) -> str:
        return f"<Task {self.name} {self.state()}>"

    def state(self) -> str:
        """One phrase for people: not started, running, ready, or what it waits for."""
        if self.done:
            if self.error is None:
                return "done"
            return "cancelled" if self.cancelled else f"failed: {self.error!r}"
        wait = self.wait
        if wait is not None:
            return wait.reason(self)
        if self.hub.current is self:
            return "running"
        return "ready" if self.glet is not None or self.persists else "not started"

    # -- for the worker and the hub, on the task's own thread -------------------------------------

    def finish(self, value: Any, error: BaseException | None) -> bool:
        """Record the end and wake who waits for it; whether someone takes notice of an error."""
        self._value = value
        self.error = error
        self.args = ()
        self.kwargs = self.context = None
        if self.timer_at != FAR:
            self.hub.timers.disarm(self)
        self.done = True
        # Joiners from other threads append first and test ``done`` afterwards, so one of the two
        # sides sees the other; without the GIL only the lock orders these two lines.
        if self._joiners is None and not FREE_THREADED:
            return False
        try:
            _joining.acquire()
            joiners, self._joiners = self._joiners or (), None
        finally:
            _joining.release()
        observed = False
        for joiner in joiners:
            observed |= joiner.observer
            joiner.ended()
        return observed

    def end_with_hub(self) -> None:
        """The hub has ended before the task: whoever waits for it is told."""
        self.finish(None, Cancelled(f"the hub of task {self.name} has ended"))

    def was_cancelled(self, error: Cancelled) -> bool:
        """Whether ``error`` is this task's own cancel, rather than one that strayed in."""
        scope = error.scope
        return type(scope) is TaskScope and (scope.task is self or scope is self.scope)

    def leave_cancel(self, error: Cancelled) -> None:
        """The task has ended by its own cancel, ``error``: see to it that they are in no cycle.

        The traceback's frames, those of the wait that was cancelled, have the task among their
        locals. Nobody is shown it: ``exception`` makes an error of its own.
        """
        error.__traceback__ = None
        scope: Any = error.scope
        self.scope = scope  # which ``was_cancelled`` goes by from now on
        scope.task = None

    def timed_out(self) -> None:
        """A deadline of the wait or of a scope around it has passed (timers.Timed)."""
        self.abandon_wait(TIMED_OUT)

    def abandon_wait(self, trouble: object) -> bool:
        """End the present wait for another reason than its event; False if there is none to end."""
        wait = self.wait
        if wait is None or not wait.abandon(self):
            return False
        self.wait = None
        self.trouble = trouble
        self.hub.ready.append(self)
        return True

    def _stay(self) -> None:
        """Let no other hub take the task any more: its cancel would find it gone."""
        try:
            _moving.acquire()
            try:
                self.hub.stealable.remove(self)
            except ValueError:
                return
        finally:
            _moving.release()
        self.hub.post(self)

    def _cancel(self, reason: str | BaseException) -> None:
        if self.done:
            return
        if self.glet is None and self.wait is not None and self.arrival is None:
            # spawn_later's, before its time.
            self.wait = None
            self.finish(None, TaskScope.around(self, reason).cancellation() if reason else NEVER)
            return
        self.persists = False  # a call that returns in spite of it is the last
        base = TaskScope.around(self, reason or f"task {self.name} was cancelled")
        outermost = self.scope
        if outermost is None:
            self.scope = base
        else:
            while outermost.parent is not None:
                outermost = outermost.parent
            if type(outermost) is TaskScope:
                return  # it was cancelled before
            outermost.parent = base
        if (self.scope or base).cancelled_one() is not None:
            self.abandon_wait(CANCELLED)
        tell_hooks(self)

    def _await_end(self, timeout: float | None, *, observer: bool) -> bool:
        hub = this_hub()
        task = hub.prepare()
        if task is self:
            raise RuntimeError(f"task {self.name} would wait for itself")
        deadline = FAR if timeout is None else hub.timers.after(timeout)
        join = _Join(self, task, observer)
        if not self.when_done(join):
            return True
        return hub.wait(task, join, deadline)

    def when_done(self, joiner: Joiner) -> bool:
        """Have ``joiner.ended()`` called when the task ends; False if it has and nothing will.

        Doesn't park. The call is made by hub code on the task's thread: it may wake, never park.
        """
        try:
            _joining.acquire()
            if self._joiners is None:
                self._joiners = {}
            self._joiners[joiner] = None
        finally:
            _joining.release()
        return not (self.done and self._leave(joiner))

    def _leave(self, joiner: Joiner) -> bool:
        try:
            _joining.acquire()
            if self._joiners is None or joiner not in self._joiners:
                return False
            del self._joiners[joiner]
            if not self._joiners:
                self._joiners = None
            return True
        finally:
            _joining.release()


def label(fn: Any) -> str:
    """A function's name, for people."""
    while (name := getattr(fn, "__qualname__", None)) is None:
        inner = fn.func if isinstance(fn, partial) else getattr(fn, "__wrapped__", None)
        if inner is None:
            return type(fn).__name__
        fn = inner
    return str(name)


def new_task(
    hub: Hub,
    fn: Callable[..., T] | None,
    args: Any,
    kwargs: dict[str, Any] | None,
    context: Context | None,
    site: tuple[CodeType, int] | None,
) -> Task[T]:
    """A task that is not yet in any run queue."""
    task = _new(Task)
    task.hub = hub
    task.fn = fn
    task.args = args
    task.kwargs = kwargs
    task.context = context
    task.site = site
    task.glet = task.wait = task.trouble = task.scope = task.arrival = task._joiners = None
    task.deadline = task.timer_at = FAR
    task.since = hub.now
    task.done = task.persists = False
    return task


def _make_nobody() -> Task[Any]:
    nobody: Task[Any] = _new(Task)
    nobody.glet = nobody.scope = nobody.error = nobody.arrival = None
    nobody.done = True  # there is nothing to cancel or to join
    nobody.name = "nobody (hub code)"
    return nobody


NOBODY = _make_nobody()
"""``hub.current`` while hub code runs: its ``glet`` is never the current greenlet."""


NEVER = Cancelled("cancelled before its time")
"""The error of every task that spawn_later was not to start: ``exception`` makes one of its own."""


class _Join:
    """The wait for a task's end."""

    __slots__ = ("joiner", "observer", "target")

    def __init__(self, target: Task[Any], joiner: Task[Any], observer: bool) -> None:
        self.target = target
        self.joiner = joiner
        self.observer = observer

    def ended(self) -> None:
        wake(self.joiner)

    def abandon(self, task: Task[Any]) -> bool:
        return self.target._leave(self)

    def reason(self, task: Task[Any]) -> str:
        return f"join of task {self.target.name}"


class _Cancel:
    """A cancel on its way to the hub that owns the task."""

    __slots__ = ("reason", "task")

    def __init__(self, task: Task[Any], reason: str | BaseException) -> None:
        self.task = task
        self.reason = reason

    def __call__(self) -> None:
        # Another hub may have taken the unstarted task over meanwhile: then on to that one.
        self.task.cancel(self.reason)
