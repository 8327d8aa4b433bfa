"""Group: a block that ends when all its tasks have.

Invariants
----------
1. No task outlives the block: ``__exit__`` parks, shielded, until the last one has ended. (But for
   a hub that closes, which ends the tasks itself, and a stack with no room left for a call.)
2. The first error cancels the rest: the other tasks, and the block itself if it is still running.
3. No error is lost: all are raised together, as an ExceptionGroup. What ends the program
   (KeyboardInterrupt, SystemExit) goes on as itself, with the group as its ``__context__`` (the
   context of its context, if it has one); and so does the RuntimeError of scopes that were left in
   the wrong order.
4. ``_taken`` counts places: members, and spawns that have taken a place and not yet a member. A
   member that ends hands its place to the first in ``_queue``; so nobody overtakes, a limit is
   never exceeded, and the block can't end under a spawn.
5. All fields change only under ``_lock``: tasks may run, end and spawn on other hubs' threads.

Rejected: a tree of scopes over tasks (trio): a cancel would have to walk structures of other
threads; here a Group cancels its members one by one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextvars import copy_context
from sys import _getframe
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from ..errors import Cancelled, Deadlock
from ..hub.local import this_hub
from ..hub.scope import Scope, move_on_after, shield
from ..hub.spawning import yield_now
from ..hub.task import Task, new_task
from ..hub.threads import Any_, enqueue, find_hub
from ..hub.wait import wake
from .starting import TaskStatus

if TYPE_CHECKING:
    from ..hub.hub import Hub

P = ParamSpec("P")
T = TypeVar("T")

NAMED: Final = 5
"""How many of the tasks that failed are named in the group's message."""

_ENDS_PROGRAM = (KeyboardInterrupt, SystemExit)


class Group:
    """``with Group() as group: group.spawn(fn, arg)`` waits for its tasks at the end.

    When one of them fails, or the block does, the others are cancelled and all errors are raised
    as an ExceptionGroup once every task has ended. A task that was cancelled alone is no failure.
    What the block was cancelled for (``scope.cancel(error)`` around it) is its tasks' cause, too.
    ``limit`` is how many tasks may run at once; ``spawn`` parks while that many do.

    Leaving the block parks. Source: trio's nursery, asyncio.TaskGroup, Go's errgroup.
    """

    __slots__ = (
        "__weakref__",
        "_ending",
        "_errors",
        "_failed",
        "_host",
        "_limit",
        "_lock",
        "_members",
        "_open",
        "_queue",
        "_scope",
        "_taken",
    )

    def __init__(self, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"a group's limit must be at least 1: {limit}")
        self._limit = limit
        self._lock = RLock()
        self._scope: Scope = move_on_after()
        self._open = False
        self._taken = 0
        self._members: dict[Task[Any], None] = {}
        self._queue: OrderedDict[_Place, None] = OrderedDict()
        self._host: Task[Any] | None = None  # while it waits at the end of the block
        self._errors: list[BaseException] = []
        self._failed: list[str] = []
        self._ending: BaseException | None = None

    def __enter__(self) -> Self:
        self._scope.__enter__()
        self._open = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        outside = self._end_of_block(error)
        try:
            outside = self._wait_for_members(outside)
        finally:
            self._open = False
            outside = self._leave_scope(outside)
        try:
            if outside is None and self._ending is not None:
                outside = self._pass_on(self._ending)
            if self._errors:
                group = BaseExceptionGroup(self._message(), self._errors)
                if outside is None or isinstance(outside, Cancelled):
                    # The scope that is cancelled around here stays so: its turn is the next park.
                    raise group
                _innermost(outside).__context__ = group
            if outside is not None and outside is not error:
                raise outside
            return outside is None
        finally:
            # The errors' tracebacks hold this frame.
            self._errors = []
            self._ending = outside = error = group = None  # type: ignore[assignment]

    def spawn(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Start a task of the group, as ``greenpump.spawn``; parks while ``limit`` tasks run.

        Those that wait for a place are served in turn. Callable from other tasks than the block's
        own, also on other hubs: the task starts on the caller's. In a group that was cancelled it
        never starts. Raises RuntimeError outside the with-block, TypeError when ``fn`` is not
        callable, Cancelled.
        """
        return self._add(None, fn, args, kwargs)

    def spawn_on(
        self, hub: Hub | Any_, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[T]:
        """``spawn`` on another hub, or on ``ANY``, as ``greenpump.spawn_on``.

        Raises HubError when ``hub`` has ended, and what ``spawn`` raises.
        """
        return self._add(hub, fn, args, kwargs)

    def start(self, fn: Callable[..., object], /, *args: Any, **kwargs: Any) -> Any:
        """``spawn``, and wait until the task says that it is ready; returns what it says.

        ``fn`` gets one more keyword argument, ``task_status``, and calls
        ``task_status.started(value)``; from then on it is a task of the group like any other. If it
        fails before, that is no matter of the group's: its error is raised here. If it just ends,
        a RuntimeError is; if something else cancels it, TaskCancelled.

        When the caller is cancelled first, so is the task; once it has ended Cancelled is raised,
        or the task's error if its clean-up failed. Parks. Raises also what ``spawn`` raises.
        Source: trio's nursery.start.
        """
        this_hub().prepare()  # in a cancelled scope nothing is started
        status: TaskStatus[Any] = TaskStatus()
        kwargs["task_status"] = status
        self._add(None, fn, args, kwargs, status)
        try:
            status.wait()
        except BaseException:
            if status.give_up():
                self._end_start(status)
            raise
        return status.outcome()

    def cancel(self, reason: str | BaseException = "") -> None:
        """Cancel every task of the group and the block itself, which then ends quietly.

        An error as ``reason`` is the cause that they see (``Scope.cancel``). Doesn't park; callable
        from any thread, before the block and during it.
        """
        self._scope.cancel(reason or "the group was cancelled")
        with self._lock:
            members = list(self._members)
        for task in members:
            task.cancel(reason or "its group was cancelled")

    def __len__(self) -> int:
        """How many of its tasks have not ended."""
        return len(self._members)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        state = f"{len(self._members)} tasks" if self._open else "not in its block"
        limit = "" if self._limit is None else f" of at most {self._limit}"
        waiting = f", {len(self._queue)} wait for a place" if self._queue else ""
        return f"<Group at {id(self):#x}: {state}{limit}{waiting}>"

    # -- the end of the block ----------------------------------------------------------------------

    def _end_of_block(self, error: BaseException | None) -> BaseException | None:
        """The block has ended; what is to be raised outwards unless errors take its place."""
        if error is None or self._is_own(error):
            return None
        if isinstance(error, Exception):
            # It may be a member's, raised again by the block: ``task.result()``.
            if not any(error is known for known in self._errors):
                self._fail("its block", error)
            return None
        self.cancel(reason_after(error) or "its group was cancelled")
        return error

    def _wait_for_members(self, outside: BaseException | None) -> BaseException | None:
        """Park until all have ended, whatever happens meanwhile; what to raise outwards."""
        try:
            while not self._all_ended():
                try:
                    if self._scope.cancelled:
                        with shield():
                            self._park()
                    else:
                        self._park()
                except BaseException as interruption:
                    if not self._is_own(interruption) and (
                        outside is None or isinstance(outside, Cancelled)
                    ):
                        outside = interruption
                    host = self._scope.task
                    if host is None or host.hub.closed:
                        break  # the hub ends the members itself, and nothing can park on it
                    if isinstance(interruption, Deadlock) and self._scope.cancelled:
                        break  # what is left wakes for nothing, not even for the cancel
                    self.cancel(reason_after(interruption) or "its group was cancelled")
                    if isinstance(interruption, RecursionError):
                        break  # no room for the calls that waiting takes
            return outside
        finally:
            outside = None  # its traceback holds this frame

    def _leave_scope(self, outside: BaseException | None) -> BaseException | None:
        """Leave the block's scope; what to raise outwards. It may not be the innermost one."""
        try:
            self._scope.__exit__(None, None, None)
        except RuntimeError as misnested:
            return outside if isinstance(outside, _ENDS_PROGRAM) else misnested
        return outside

    def _pass_on(self, ending: BaseException) -> BaseException | None:
        """A member has ended the program: what the block's task is to raise.

        The main task gets it from the hub, if it has not yet. Another one must not go on as if all
        were well.
        """
        hub = this_hub()
        if hub.current is not hub.main:
            return ending
        try:
            with shield():
                hub.ready.append(hub.root_task)  # for what is still in the inbox
                yield_now()
        except BaseException as error:
            return error
        return None

    def _is_own(self, error: BaseException) -> bool:
        return isinstance(error, Cancelled) and error.scope is self._scope

    def _message(self) -> str:
        """``2 errors in a group, from fetch#3 and its block``"""
        names = self._failed[:NAMED]
        if more := len(self._failed) - len(names):
            names.append(f"{more} more")
        what = "an error" if len(self._failed) == 1 else f"{len(self._failed)} errors"
        start, end = ", ".join(names[:-1]), names[-1]
        return f"{what} in a group, from {start + ' and ' if start else ''}{end}"

    # -- tasks that end --------------------------------------------------------------------------

    def _member_ended(self, task: Task[Any], status: TaskStatus[Any] | None) -> None:
        with self._lock:
            self._members.pop(task, None)
        if status is None or not status.task_ended():
            self._note_error(task)
        self._give_place()

    def _note_error(self, task: Task[Any]) -> None:
        error = task.error
        if isinstance(error, _ENDS_PROGRAM):
            self._ending = error
            self.cancel("another task of its group ended the program")
        elif error is not None and not (isinstance(error, Cancelled) and task.was_cancelled(error)):
            self._fail(task.name, error)

    def _fail(self, who: str, error: BaseException) -> None:
        with self._lock:
            self._failed.append(who)
            self._errors.append(error)
        if not self._scope.cancelled:
            self.cancel(f"{who} of its group failed with {type(error).__name__}")

    # -- tasks that begin --------------------------------------------------------------------------

    def _add(
        self,
        hub: Hub | Any_ | None,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        status: TaskStatus[Any] | None = None,
    ) -> Task[T]:
        """Make a member of the group and let it start. Called by what the user calls."""
        if not callable(fn):
            raise TypeError(f"a Group's task needs a callable, not {fn!r}")
        self._take_place()
        frame = _getframe(2)
        task = None
        try:
            target = this_hub() if hub is None else find_hub(hub)
            site = (frame.f_code, frame.f_lasti)
            task = new_task(target, fn, args, kwargs or None, copy_context(), site)
            if status is not None:
                status.task = task
            with self._lock:
                self._members[task] = None
            # Before it can end, or its error would be reported as one that nobody waits for.
            task.when_done(_Member(self, task, status))
            enqueue(task, target if hub is None else hub)
        except BaseException:
            with self._lock:
                self._members.pop(task, None)  # type: ignore[arg-type]
            self._give_place()
            raise
        if self._scope.cancelled:
            task.cancel(self._scope.cause or "its group was cancelled")
        return task

    def _end_start(self, status: TaskStatus[Any]) -> None:
        """The starter was interrupted: end the task, and raise its error if it has one."""
        task = status.task
        task.cancel("its start was cancelled")
        if this_hub().closed:
            return
        try:
            with shield():
                task.join()
        except BaseException:
            if not status.hand_over():
                self._note_error(task)
            raise
        if task.error is not None and not task.cancelled:
            del task
            status.raise_error()

    # -- places ------------------------------------------------------------------------------------

    def _take_place(self) -> None:
        """Count one more; park while there is no room."""
        with self._lock:
            if self._has_room():
                self._taken += 1
                return
        hub = this_hub()
        place = _Place(self, hub.prepare())
        with self._lock:
            if self._has_room():
                self._taken += 1
                return
            self._queue[place] = None
        try:
            hub.wait(place.task, place)
        except BaseException:
            if place.given:
                self._give_place()
            else:
                place.abandon(place.task)
            raise

    def _has_room(self) -> bool:
        if not self._open:
            raise RuntimeError("a Group's tasks are spawned inside its with-block")
        return self._limit is None or self._taken < self._limit

    def _give_place(self) -> None:
        """Somebody's place is free: the next one's, or one less."""
        waiting = None
        with self._lock:
            if self._queue:
                place, _ = self._queue.popitem(False)
                place.given = True
                waiting = place.task
            else:
                self._taken -= 1
                if not self._taken:
                    waiting, self._host = self._host, None
        if waiting is not None:
            wake(waiting)

    def _all_ended(self) -> bool:
        with self._lock:
            if self._taken:
                return False
            self._open = False
            return True

    def _park(self) -> None:
        """Park the block's task until the last place is given back."""
        hub = this_hub()
        task = hub.prepare()
        with self._lock:
            if not self._taken:
                return
            self._host = task
        try:
            hub.wait(task, self)
        except BaseException:
            self.abandon(task)
            raise

    def abandon(self, task: Task[Any]) -> bool:
        with self._lock:
            if self._host is not task:
                return False
            self._host = None
            return True

    def reason(self, task: Task[Any]) -> str:
        return f"wait for {len(self._members)} task(s) of a group"


def reason_after(error: BaseException | None) -> BaseException | str:
    """What cancels tasks in a block that ``error`` ends: a cancel's cause is theirs, too."""
    return (error.__cause__ if isinstance(error, Cancelled) else None) or ""


def _innermost(error: BaseException) -> BaseException:
    """The error at the end of the chain of contexts, where one more has its place."""
    seen = {id(error)}
    while (context := error.__context__) is not None and id(context) not in seen:
        seen.add(id(context))
        error = context
    return error


class _Place:
    """A task's wait for a place in a group that is full."""

    __slots__ = ("given", "group", "task")

    def __init__(self, group: Group, task: Task[Any]) -> None:
        self.group = group
        self.task = task
        self.given = False

    def abandon(self, task: Task[Any]) -> bool:
        with self.group._lock:
            if self not in self.group._queue:
                return False
            del self.group._queue[self]
            return True

    def reason(self, task: Task[Any]) -> str:
        return f"wait for a place in a group of {self.group._limit}"


class _Member:
    """What tells the group that a task has ended."""

    __slots__ = ("group", "observer", "status", "task")

    def __init__(self, group: Group, task: Task[Any], status: TaskStatus[Any] | None) -> None:
        self.group = group
        self.task = task
        self.status = status
        self.observer = True

    def ended(self) -> None:
        self.group._member_ended(self.task, self.status)

    def renew_locks(self) -> None:
        self.group._lock = RLock()
        if self.status is not None:
            self.status.renew_lock()
