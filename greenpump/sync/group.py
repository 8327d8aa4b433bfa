"""Group: a block that ends when all its tasks have.

Invariants
----------
1. No task outlives the block: ``__exit__`` parks, shielded, until the last one has ended.
2. The first error cancels the rest: the other tasks, and the block itself if it is still running.
3. No error is lost: all are raised together, as an ExceptionGroup.
4. Members and errors change only under ``_lock``: tasks may end on other hubs' threads.

Rejected: a tree of scopes over tasks (trio): a cancel would have to walk structures of other
threads; here a Group cancels its members one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import RLock
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from ..errors import Cancelled
from ..hub.local import this_hub
from ..hub.scope import Scope, move_on_after, shield
from ..hub.spawning import spawn
from ..hub.task import Task
from ..hub.wait import wake

P = ParamSpec("P")
T = TypeVar("T")


class Group:
    """``with Group() as group: group.spawn(fn, arg)`` waits for its tasks at the end.

    When one of them fails, or the block does, the others are cancelled and all errors are raised
    as an ExceptionGroup once every task has ended. ``limit`` is how many tasks may run at once;
    ``spawn`` parks while that many do. Source: trio's nursery, asyncio.TaskGroup, Go's errgroup.
    """

    __slots__ = (
        "__weakref__",
        "_errors",
        "_host",
        "_limit",
        "_lock",
        "_members",
        "_queue",
        "_scope",
    )

    def __init__(self, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"a group's limit must be at least 1: {limit}")
        self._limit = limit
        self._lock = RLock()
        self._members: dict[Task[Any], None] = {}
        self._errors: list[BaseException] = []
        self._queue: deque[Task[Any]] = deque()
        self._host: Task[Any] | None = None
        self._scope: Scope = move_on_after()

    def __enter__(self) -> Self:
        self._scope.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        scope = self._scope
        # What goes on outwards once all have ended, unless errors take its place: a cancel of a
        # scope around, Ctrl-C.
        outside: BaseException | None = None
        if isinstance(error, Exception):
            self._fail(error)
        elif error is not None:
            if not isinstance(error, Cancelled) or error.scope is not scope:
                outside = error
            self.cancel("its group was cancelled")
        while self._members:
            try:
                if scope.cancelled:
                    with shield():
                        self._park_for_members()
                else:
                    self._park_for_members()
            except BaseException as interruption:
                if not isinstance(interruption, Cancelled) or interruption.scope is not scope:
                    outside = interruption
                self.cancel("its group was cancelled")
        scope.__exit__(None, None, None)
        errors, self._errors = self._errors, []
        if errors:
            raise BaseExceptionGroup(f"{len(errors)} task(s) of a group failed", errors)
        if outside is not None and outside is not error:
            raise outside
        return outside is None

    def spawn(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Start a task of the group, as ``greenpump.spawn``; parks while ``limit`` tasks run.

        Raises RuntimeError outside the with-block, Cancelled when the group was cancelled.
        """
        if self._scope.task is None:
            raise RuntimeError("a Group's tasks are spawned inside its with-block")
        while self._limit is not None and len(self._members) >= self._limit:
            self._wait_for_room()
        task = spawn(fn, *args, **kwargs)
        with self._lock:
            self._members[task] = None
        if not task.when_done(_Member(self, task)):
            self._member_ended(task)
        if self._scope.cancelled:
            task.cancel("its group was cancelled")
        return task

    def cancel(self, reason: str = "") -> None:
        """Cancel every task of the group and the block itself. Doesn't park; from any thread."""
        self._scope.cancel(reason or "the group was cancelled")
        with self._lock:
            members = list(self._members)
        for task in members:
            task.cancel(reason or "its group was cancelled")

    def __len__(self) -> int:
        """How many of its tasks have not ended."""
        return len(self._members)

    # -- tasks that end --------------------------------------------------------------------------

    def _member_ended(self, task: Task[Any]) -> None:
        error = task.error
        with self._lock:
            self._members.pop(task, None)
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self.cancel("another task of its group ended the program")  # the main task gets it
        elif error is not None and not task.cancelled:
            self._fail(error)
        with self._lock:
            waiting = self._queue.popleft() if self._queue else None
            if waiting is None and self._host is not None and not self._members:
                waiting, self._host = self._host, None
        if waiting is not None:
            wake(waiting)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._errors.append(error)
        if not self._scope.cancelled:
            self.cancel("another task of its group failed")

    # -- waiting -----------------------------------------------------------------------------------

    def _park_for_members(self) -> None:
        hub = this_hub()
        task = hub.prepare()
        with self._lock:
            if not self._members:
                return
            self._host = task
        hub.wait(task, self)

    def _wait_for_room(self) -> None:
        hub = this_hub()
        task = hub.prepare()
        with self._lock:
            if self._limit is None or len(self._members) < self._limit:
                return
            self._queue.append(task)
        hub.wait(task, self)

    def abandon(self, task: Task[Any]) -> bool:
        with self._lock:
            if self._host is task:
                self._host = None
                return True
            if task in self._queue:
                self._queue.remove(task)
                return True
            return False

    def reason(self, task: Task[Any]) -> str:
        return f"wait for {len(self._members)} task(s) of a group"


class _Member:
    """What tells the group that a task has ended."""

    __slots__ = ("group", "observer", "task")

    def __init__(self, group: Group, task: Task[Any]) -> None:
        self.group = group
        self.task = task
        self.observer = True

    def ended(self) -> None:
        self.group._member_ended(self.task)
