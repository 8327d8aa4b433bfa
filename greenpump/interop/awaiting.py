"""wait_for_task: a task of greenpump's, awaited by asyncio.

Invariants
----------
1. What asyncio awaits is a Future whose ``cancel`` asks the task to end, and which ends when the
   task has: as with an ``asyncio.Task`` in its place, nobody goes on while the task cleans up.
2. It is settled on its event loop, once, by the task's end.

Rejected: a coroutine around an Event (a cancel would have to be caught, passed on and waited out by
hand, and ``gather`` and ``wait`` want futures anyway).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import TaskCancelled
from ..hub.local import hub_or_none
from ..hub.report import report

if TYPE_CHECKING:
    import asyncio

    from ..hub.task import Task

T = TypeVar("T")


def wait_for_task(task: Task[T]) -> asyncio.Future[T]:
    """What ``await`` gives the result of ``task`` for: ``await wait_for_task(spawn_on(hub, fn))``.

    Called in a running event loop. It raises what the task raised; a cancelled task raises
    asyncio.CancelledError. When the awaiting side is cancelled, so is the task, and asyncio waits
    until it has ended; what it returned or raised all the same counts. Doesn't park, doesn't block.

    Raises RuntimeError without a running event loop, and for a task of this very thread's hub,
    which can't run while the event loop has the thread: spawn it on another hub, or let a
    TaskExecutor run it. Source: asyncio.wrap_future.
    """
    import asyncio  # a third more to import, which most programs don't need

    loop = asyncio.get_running_loop()
    if not task.done and task.hub is hub_or_none():
        raise RuntimeError(
            f"task {task.name} belongs to the hub of this very thread, which the event loop has "
            "for itself: spawn it on another thread's hub (spawn_on), or use a TaskExecutor"
        )
    awaited = _Awaited(task, loop)
    future: asyncio.Future[T] = awaited.future
    if not task.when_done(awaited):
        awaited.settle()
    return future


@cache
def _future_class() -> type[Any]:
    """The class of a task's Future."""
    import asyncio

    class TaskFuture(asyncio.Future[Any]):
        """What asyncio awaits in a task's place."""

        task: Task[Any]

        def cancel(self, msg: Any = None) -> bool:
            """Ask the task to end; whether it has not yet."""
            if self.done():
                return False
            self.task.cancel("" if msg is None else str(msg))
            return True

        def end_cancelled(self, message: str) -> None:
            """The task has ended by a cancel."""
            super().cancel(message)

    return TaskFuture


class _Awaited:
    """What tells the event loop that the task has ended (task.Joiner)."""

    __slots__ = ("_loop", "_task", "future", "observer")

    def __init__(self, task: Task[Any], loop: asyncio.AbstractEventLoop) -> None:
        self.observer = True
        self.future = _future_class()(loop=loop)
        self.future.task = task
        self._task = task
        self._loop = loop

    def ended(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self.settle)
        except RuntimeError:  # it is closed: nobody waits
            error = self._task.error
            if error is not None and not self._task.cancelled:
                report(self._task, error)

    def settle(self) -> None:
        """Hand the task's end to the Future. On the event loop."""
        task = self._task
        error = task.error
        if error is None:
            self.future.set_result(task.result())
        elif task.cancelled and not isinstance(error, TaskCancelled):
            self.future.end_cancelled(str(error))
        elif isinstance(error, StopIteration):  # a Future refuses it; PEP 479
            wrapped = RuntimeError(f"task {task.name} raised StopIteration")
            wrapped.__cause__ = error
            self.future.set_exception(wrapped)
        else:
            self.future.set_exception(error)
