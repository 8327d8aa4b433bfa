"""TaskStatus: how a task that ``Group.start`` starts says that it is ready.

Invariants
----------
1. ``_state`` goes once from STARTING to READY, by ``started``, or to OVER: by the task's end, or by
   the starter that gave up. Under ``_lock``; who changes it wakes the starter, if it waits.
2. So it is settled whose the task's error is: its group's after READY, else ``start``'s.
"""

from __future__ import annotations

from enum import Enum
from threading import RLock
from typing import Any, Final, Generic, NoReturn, TypeVar

from ..hub.local import this_hub
from ..hub.task import Task
from ..hub.wait import wake

T = TypeVar("T")


class State(Enum):
    """How far a start is."""

    STARTING = "starting"
    READY = "ready"
    OVER = "over"


class TaskStatus(Generic[T]):
    """What ``Group.start`` hands to the function it starts, as ``task_status``.

    Source: trio's TaskStatus.
    """

    __slots__ = ("_ended", "_lock", "_starter", "_state", "_value", "task")
    task: Task[Any]
    _value: T | None

    def __init__(self) -> None:
        self._lock = RLock()
        self._state = State.STARTING
        self._ended = False
        self._starter: Task[Any] | None = None

    def started(self, value: T | None = None) -> None:
        """The task is ready: ``start`` returns ``value``, and the task goes on in its group.

        Doesn't park. Callable from any task and thread. When ``start`` was cancelled before, it
        does nothing: the task is being cancelled. Raises RuntimeError the second time.
        """
        with self._lock:
            if self._state is State.READY:
                raise RuntimeError(f"task {self.task.name} said twice that it has started")
            if self._state is State.OVER:
                return
            self._state = State.READY
            self._value = value
            starter, self._starter = self._starter, None
        if starter is not None:
            wake(starter)

    # -- for the group -----------------------------------------------------------------------------

    def wait(self) -> None:
        """Park until the task is ready or has ended."""
        hub = this_hub()
        task = hub.prepare()
        with self._lock:
            if self._state is not State.STARTING:
                return
            self._starter = task
        try:
            hub.wait(task, self)
        except BaseException:
            self.abandon(task)  # a signal handler of the program's raised in between
            raise

    def give_up(self) -> bool:
        """The starter waits no longer; whether it has the task's end to see to."""
        with self._lock:
            self._starter = None
            if self._state is State.STARTING:
                self._state = State.OVER
            return self._state is State.OVER

    def hand_over(self) -> bool:
        """Let the task's error be the group's after all; False when it has ended already."""
        with self._lock:
            self._state = State.READY
            return not self._ended

    def task_ended(self) -> bool:
        """The task has ended; whether its error is ``start``'s."""
        with self._lock:
            self._ended = True
            if self._state is State.READY:
                return False
            self._state = State.OVER
            starter, self._starter = self._starter, None
        if starter is not None:
            wake(starter)
        return True

    def renew_lock(self) -> None:
        """In the child of a fork: a thread that is not there may hold it."""
        self._lock = RLock()

    def outcome(self) -> T | None:
        """What ``start`` returns, or raises because the task ended before it was ready."""
        if self._state is State.READY:
            return self._value
        if self.task.error is None:
            raise RuntimeError(
                f"task {self.task.name} ended without a word: a function that Group.start starts "
                "calls task_status.started() once it is ready"
            )
        if self.task.cancelled:
            this_hub().prepare()  # the caller may be cancelled as well, and that goes first
        self.raise_error()

    def raise_error(self) -> NoReturn:
        """Raise the error of the task that has ended, and leave nothing that refers to it."""
        error = self.task.exception()
        assert error is not None
        del self.task
        try:
            raise error
        finally:
            del error

    def abandon(self, task: Task[Any]) -> bool:
        with self._lock:
            if self._starter is not task:
                return False
            self._starter = None
            self._state = State.OVER
            return True

    def reason(self, task: Task[Any]) -> str:
        return f"start of task {self.task.name}"


class _Ignored(TaskStatus[Any]):
    """What nobody waits for."""

    __slots__ = ()

    def started(self, value: Any = None) -> None:
        """Nobody waits for it."""


TASK_STATUS_IGNORED: Final[TaskStatus[Any]] = _Ignored()
"""The default of a parameter ``task_status``, for a function that is called in other ways, too."""
