"""spawn, sleep and yield: the calls every program makes."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from sys import _getframe
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from greenlet import getcurrent

from ..errors import HubError
from .local import this_hub
from .task import NOBODY, Task, new_task
from .wait import SLEEP

if TYPE_CHECKING:
    from .hub import Hub

P = ParamSpec("P")
T = TypeVar("T")


def spawn(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
    """Start a task that calls ``fn(*args, **kwargs)`` on this thread's hub, and return its handle.

    It starts at this task's next wait, in the order of spawning, with a copy of the caller's
    contextvars context. Doesn't park. Raises TypeError when ``fn`` is not callable.

    An error nobody joins the task for goes to ``greenpump.excepthook``. Source: Go's go statement,
    gevent.spawn.
    """
    try:
        hub: Hub = getcurrent().task.hub  # type: ignore[attr-defined]
    except AttributeError:
        hub = this_hub()
    if not callable(fn):
        raise TypeError(f"spawn needs a callable, not {fn!r}")
    frame = _getframe(1)
    site = (frame.f_code, frame.f_lasti)
    task = new_task(hub, fn, args, kwargs or None, copy_context(), site)
    hub.ready.append(task)
    if hub.sleeping:
        hub.refilled()
    return task


def sleep(seconds: float) -> None:
    """Park for ``seconds`` (a float; ``math.inf`` is for ever, 0 yields).

    Never returns early. Raises ValueError for a negative number or NaN, Cancelled. Source:
    time.sleep.
    """
    hub = this_hub()
    if seconds == 0:
        yield_now()
        return
    deadline = hub.timers.after(seconds)
    hub.wait(hub.prepare(), SLEEP, deadline)


def yield_now() -> None:
    """Park until every task that is ready now has run. Raises Cancelled.

    Source: man 2 sched_yield, Go's runtime.Gosched.
    """
    try:
        me = getcurrent()
        task = me.task  # type: ignore[attr-defined]
        hub = task.hub
        if hub.current is not task or task.glet is not me or task.scope is not None:
            hub.prepare()
    except AttributeError:
        hub = this_hub()
        task = hub.prepare()
    hub.go_round(task)


def current() -> Task[Any]:
    """The task that runs; in a thread's own code the main task of its hub.

    Doesn't park. Raises HubError in code that interrupted the scheduler. Source:
    asyncio.current_task, gevent.getcurrent.
    """
    task = this_hub().current
    if task is NOBODY:
        raise HubError("no task runs here: this code interrupted the scheduler")
    return task
