"""Scopes: blocks that can be cancelled, by a deadline or by hand.

``with timeout(5):`` raises TimeoutError, ``with move_on_after(5):`` just ends the block,
``with shield():`` keeps the cancels of the scopes around it out.

Invariants
----------
1. Scopes nest: a task's scopes form a chain, ``task.scope`` the innermost. They are left in the
   reverse order of entering, by the task that entered them.
2. Inside a cancelled scope every park raises Cancelled, until that scope is left (as in trio). The
   outermost cancelled scope that no shield cuts off is the one that is named, and it alone absorbs
   the exception.
3. A wait that its event has already ended is not taken back: the cancel shows at the next park, so
   a received message or an acquired lock is never lost to a deadline.
4. Entering and leaving touch no timer. A deadline reaches the heap only when the task parks inside
   the scope, and then as the task's one entry (``timers.py``).
5. A hook stands in the chain as if it were a scope just inside its own: so leaving a scope that has
   none costs nothing, and one that has some finds that it is not the innermost. A hook is told once
   at most, and taken out of the chain then; its scope, when it is left, drops it.

Rejected: throwing into a task at an arbitrary point (gevent.Timeout: it corrupts whatever the task
was doing, and an inner block can't tell whose timeout it caught); edge-triggered cancellation
(asyncio: one swallowed exception and the cancel is lost); scopes that span tasks (the Group cancels
its tasks one by one, which needs no tree shared between threads).
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from greenlet import getcurrent

from ..errors import Cancelled
from .local import hub_or_none, this_hub
from .timers import CENTURY, FAR

if TYPE_CHECKING:
    from .task import Task

TIMED_OUT = "timed out"
CANCELLED = "cancelled"
"""What ``task.trouble`` says of a wait that was abandoned (or an exception, to be raised as is)."""


class Scope:
    """A block that can be cancelled. Made by ``timeout``, ``move_on_after`` and ``shield``.

    ``cancelled`` is True once it was cancelled or its deadline ended a wait in it; ``expired``,
    after the block, whether it was cut short. ``deadline`` is in nanoseconds of the hub's clock.
    Source: trio.CancelScope.
    """

    __slots__ = ("_cut_short", "_reason", "cancelled", "deadline", "parent", "seconds", "task")
    # ``make_scope`` sets three of them, for the reason given at ``task.new_task``, entering the
    # next three, a cancel the others: a limit that isn't reached is to cost next to nothing.
    _reason: str | BaseException
    cancelled: bool
    deadline: int
    parent: Scope | None
    seconds: float | None
    task: Task[Any] | None

    shielded: ClassVar[bool] = False

    def __init__(self) -> None:
        raise TypeError("a scope is made by timeout, move_on_after or shield")

    @property
    def expired(self) -> bool:
        """After the block: whether it was cut short."""
        return hasattr(self, "_cut_short")

    @property
    def cause(self) -> BaseException | None:
        """The error it was cancelled with, if it was one. Source: Go's context.Cause."""
        reason = getattr(self, "_reason", None)
        return reason if isinstance(reason, BaseException) else None

    def __enter__(self) -> Self:
        if self.task is not None:
            raise RuntimeError("a scope can be entered only once: make a new one")
        try:
            task = getcurrent().task  # type: ignore[attr-defined]
            hub = task.hub
        except AttributeError:
            hub = this_hub()
            task = hub.current
        seconds = self.seconds
        if seconds is None:
            self.deadline = FAR
        elif 0 <= seconds <= CENTURY:
            ns = seconds * 1_000_000_000
            self.deadline = hub.timers.clock() + (ns if type(ns) is int else int(ns))
        else:
            self.deadline = hub.timers.after(seconds)
        self.task = task
        self.parent = task.scope
        task.scope = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        task: Any = self.task
        if task.scope is not self:
            self._left_not_innermost(task)
        task.scope = self.parent
        if error is None or not isinstance(error, Cancelled) or error.scope is not self:
            return False
        self._cut_short = True
        absorb = self._absorb
        del self, task, traceback
        try:
            return absorb(error)
        finally:
            del absorb, error

    def cancel(self, reason: str | BaseException = "") -> None:
        """Cancel the block: every park in it raises Cancelled until it is left.

        ``reason`` is what the Cancelled says, or the TimeoutError that takes its place; an error is
        its ``__cause__``, too. The first reason counts. Doesn't park. Callable from any task and
        thread; again and afterwards it does nothing. Source: Go's context.WithCancelCause.
        """
        if reason and not hasattr(self, "_reason"):
            self._reason = reason
        before, self.cancelled = self.cancelled, True
        task = self.task
        if task is None or before:
            return  # before: every park in it raises already, and its hub has been told
        if hub_or_none() is task.hub:
            self._tell()
        else:
            task.hub.post(self._tell)

    def check(self) -> None:
        """Raise Cancelled if this scope, or one around it that reaches it, is cancelled.

        One whose deadline has passed is, also when no timer was armed: a task that only ever
        yields is ended as well.
        """
        found = None
        limit = FAR
        scope: Scope | None = self
        while scope is not None:
            if scope.cancelled:
                found = scope
            if scope.deadline < limit:
                limit = scope.deadline
            if scope.shielded:
                break
            scope = scope.parent
        if limit != FAR:
            assert self.task is not None
            now = self.task.hub.timers.clock()
            if limit <= now:
                self.mark_expired(now)
                found = self.cancelled_one()
        if found is not None:
            raise found.cancellation()

    def cancelled_one(self) -> Scope | None:
        """The outermost cancelled scope of the chain from here outwards, up to a shield."""
        found = None
        scope: Scope | None = self
        while scope is not None:
            if scope.cancelled:
                found = scope
            if scope.shielded:
                break
            scope = scope.parent
        return found

    def mark_expired(self, now: int) -> None:
        """Cancel every scope that reaches here and whose deadline has passed."""
        scope: Scope | None = self
        while scope is not None:
            if scope.deadline <= now:
                scope.cancelled = True
            if scope.shielded:
                break
            scope = scope.parent

    def earliest(self) -> int:
        """The earliest deadline that reaches here."""
        deadline = self.deadline
        scope = self
        while not scope.shielded and scope.parent is not None:
            scope = scope.parent
            if scope.deadline < deadline:
                deadline = scope.deadline
        return deadline

    def cancellation(self) -> Cancelled:
        """The exception that unwinds to this scope."""
        error = Cancelled(self._why(), self)
        error.__cause__ = self.cause
        return error

    def _why(self) -> str:
        if hasattr(self, "_reason"):
            reason = self._reason
            return f"cancelled for {reason!r}" if isinstance(reason, BaseException) else reason
        if self.seconds is not None:
            return f"the time limit of {self.seconds} s has passed"
        return "the scope was cancelled"

    def _absorb(self, error: Cancelled) -> bool:
        return True

    def _tell(self) -> None:
        task = self.task
        if task is not None and task.scope is not None:
            if task.scope.cancelled_one() is self:
                task.abandon_wait(CANCELLED)
            tell_hooks(task)

    def _left_not_innermost(self, task: Task[Any]) -> None:
        """Drop the hooks of this scope; what else stands inside it should have been left before."""
        inside = []
        scope = task.scope
        while scope is not None and scope is not self:
            inside.append(scope)
            scope = scope.parent
        if scope is None:
            raise RuntimeError(
                "a scope was left twice, or by another task than the one that entered it"
            )
        task.scope = self.parent
        hooks = [scope for scope in inside if isinstance(scope, Hook)]
        for hook in hooks:
            hook.take_down()
            hook.dropped()
        if hooks != inside:
            raise RuntimeError(
                "scopes must be left in the reverse order of entering; an inner one is still open "
                "(a generator suspended inside a with-block?)"
            )


class _Limit(Scope):
    """The scope that turns its cancellation into a TimeoutError."""

    __slots__ = ()

    if TYPE_CHECKING:
        # It never ends quietly: a function may return out of the block and nowhere else.
        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            traceback: TracebackType | None,
        ) -> Literal[False]: ...

    def _absorb(self, error: Cancelled) -> Literal[False]:
        late, cause = TimeoutError(str(error)), error.__cause__
        # The task may end with what is raised, and keep it. So it must not lead back to the task,
        # neither by the frames here nor by those of the wait, which are in its context.
        error.__traceback__ = error.scope = None
        del self, error
        try:
            raise late from cause
        finally:
            del late, cause


class _Shield(Scope):
    """The scope that cancels from around it don't enter."""

    __slots__ = ()
    shielded = True


class TaskScope(Scope):
    """What ``Task.cancel`` puts around the whole task; it is never entered nor left."""

    __slots__ = ()

    @classmethod
    def around(cls, task: Task[Any], reason: str | BaseException) -> TaskScope:
        """The cancelled scope of ``task``."""
        scope = make_scope(cls, None)
        scope.task = task
        scope.parent = None
        scope.deadline = FAR
        scope.cancelled = True
        scope._reason = reason
        return scope


class Hook(Scope):
    """What is told when a scope is cancelled, by hand or by a deadline. It is no block.

    All of it runs on the hub of the scope's task.
    """

    __slots__ = ("timer_at",)
    timer_at: int

    def put_up(self, scope: Scope) -> bool:
        """Stand just inside ``scope``, or be told at once; False when that has been left."""
        task = scope.task
        if task is None:
            return False
        inner = None
        outer = task.scope
        while outer is not None and outer is not scope:
            inner, outer = outer, outer.parent
        if outer is None:
            return False
        self.seconds = None
        self.cancelled = False
        self.task = task
        self.timer_at = FAR
        self.deadline = scope.earliest()
        if scope.cancelled_one() is not None:
            self.reached()
            return True
        self.parent = scope
        if inner is None:
            task.scope = self
        else:
            inner.parent = self
        if self.deadline != FAR:
            task.hub.timers.arm(self, self.deadline)
        return True

    def take_down(self) -> None:
        """Leave the chain, if it still stands there."""
        task = self.task
        assert task is not None
        inner = None
        scope = task.scope
        while scope is not None and scope is not self:
            inner, scope = scope, scope.parent
        if scope is not None:
            if inner is None:
                task.scope = self.parent
            else:
                inner.parent = self.parent
        self.deadline = FAR
        if self.timer_at != FAR:
            task.hub.timers.disarm(self)

    def timed_out(self) -> None:
        self.take_down()
        self.reached()

    def reached(self) -> None:
        """The scope is cancelled. No user code here: it is the hub that calls."""
        raise NotImplementedError

    def dropped(self) -> None:
        """The scope has been left: it never will be."""
        raise NotImplementedError


def tell_hooks(task: Task[Any]) -> None:
    """Tell the hooks of ``task`` that stand in a cancelled scope."""
    scope = task.scope
    while scope is not None:
        hook, scope = scope, scope.parent
        if isinstance(hook, Hook) and hook.cancelled_one() is not None:
            hook.take_down()
            hook.reached()


S = TypeVar("S", bound=Scope)
_new: Any = object.__new__


def make_scope(kind: type[S], seconds: float | None) -> S:
    """A scope that is not entered yet."""
    scope: S = _new(kind)
    scope.seconds = seconds
    scope.task = None
    scope.cancelled = False
    return scope


def timeout(seconds: float | None) -> _Limit:
    """``with timeout(seconds):`` the block is cut short and raises TimeoutError.

    ``seconds`` may be a float; None means no limit. The limit acts at waits: code that computes
    without ever waiting is not interrupted. Nested limits each raise at their own block. Entering
    raises ValueError for a negative number or NaN.

    For one socket operation a deadline on the socket is the better choice (``settimeout``,
    ``set_deadline``): it surfaces from that very call. Source: trio.fail_after, Go's context.
    """
    scope: _Limit = _new(_Limit)  # make_scope, written out: servers enter a limit per request
    scope.seconds = seconds
    scope.task = None
    scope.cancelled = False
    return scope


def move_on_after(seconds: float | None = None) -> Scope:
    """``with move_on_after(seconds) as scope:`` the block is cut short, quietly.

    Afterwards ``scope.expired`` tells whether it was. ``scope.cancel()`` does the same by hand;
    without ``seconds`` it is a block that only ``cancel`` ends. Source: trio.move_on_after.
    """
    return make_scope(Scope, seconds)


def shield(seconds: float | None = None) -> Scope:
    """``with shield(seconds):`` cancels and deadlines of the scopes around stay outside.

    For clean-up that must wait (``with shield(2): conn.sendall(goodbye)``); ``seconds`` limits the
    block itself, quietly. What happened outside meanwhile shows at the first park after the block.
    Source: trio's shielded CancelScope.
    """
    return make_scope(_Shield, seconds)
