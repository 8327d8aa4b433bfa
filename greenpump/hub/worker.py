"""Worker: a pooled greenlet that runs tasks one after another.

Invariants
----------
1. A worker that finished a task takes the next job itself. If that job is a new task it runs it
   with no switch at all.
2. An idle worker stands in ``hub.idle_workers``, suspended in its own ``switch``; whoever wants it
   puts the task into ``hub.newborn`` and switches to it.
3. While suspended, no local of a worker refers to a task that is not its own: a finished task's
   result must not live on because a worker sleeps.
4. ``run_task`` and ``run_arrivals`` are the only functions of the hub that call user code.
5. A task that persists has no stack between two calls of its function. It goes back into its
   pollable's reader slot, like one that hasn't started. If another of these is next, it is run at
   once: a thousand of them share one stack, and it is always in the cache.

Frames are kept few and calls plain (``fn(a)`` rather than ``fn(*args)``, which before 3.13 nests a
C frame): what lies on a suspended stack is what a parked task costs.
"""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit, getcurrent, greenlet

from ..errors import Cancelled
from .interrupt import calls_user_code, came_of_interrupt
from .pollable import YES
from .report import report

if TYPE_CHECKING:
    from .hub import Hub
    from .task import Task


class Worker(greenlet):
    """A greenlet with a place for the task it runs (None while idle)."""

    __slots__ = ("task",)
    task: Task[Any] | None


@calls_user_code
def worker_main(hub: Hub) -> None:
    """The life of a worker, from its birth by root until the pool has no place for it."""
    me = getcurrent()
    assert isinstance(me, Worker)
    me.task = hub.newborn
    hub.newborn = None
    hub.workers.add(me)
    try:
        work(hub, me)
    finally:
        me.task = None
        hub.workers.discard(me)
    # Falls through to root, our parent, which runs what is next.


@calls_user_code
def work(hub: Hub, me: Worker) -> None:
    """Run task after task, until there is no place to be idle or the hub closes."""
    ready = hub.ready
    idle = hub.idle_workers
    nobody = hub.nobody
    task: Any = me.task
    while True:
        me.task = task
        me.gr_context = task.context
        task.glet = me
        hub.current = task
        try:
            if task.arrival is None:
                run_task(hub, task)
            else:
                run_arrivals(hub, me, task)
        except GreenletExit:
            raise
        except BaseException as error:
            # A signal handler of the program's raised while the end was being recorded.
            task_failed(hub, me.task or task, error)
        hub.current = nobody
        me.task = task = None
        if hub.closed:
            return
        if hub.quota < 0:
            hub.poll_now()
        while not ready:
            hub.idle()
        # No call between the look and the hand-over, as in park: see law 3 and 4.
        glet = ready[0].glet
        if glet is None:
            task = ready[0]
            del ready[0]
            if task.arrival is None:
                hub.quota -= 1
            continue
        if len(idle) >= hub.max_idle_workers:
            return
        me.gr_context = None
        idle.append(me)
        glet = ready[0].glet
        del ready[0]
        glet.switch()  # type: ignore[union-attr]
        glet = None
        task = hub.newborn
        hub.newborn = None
        if task is None:
            return  # the hub closes


@calls_user_code
def run_task(hub: Hub, task: Task[Any]) -> None:
    """Call the task's function and record how it ended."""
    fn: Any = task.fn
    args = task.args
    try:
        if task.scope is not None:
            task.scope.check()  # cancelled before it started
        if task.kwargs is not None:
            value = fn(*args, **task.kwargs)
        else:
            match len(args):
                case 0:
                    value = fn()
                case 1:
                    value = fn(args[0])
                case 2:
                    value = fn(args[0], args[1])
                case _:
                    value = fn(*args)
    except BaseException as error:
        task_raised(hub, task, error)
        # The traceback's frames reach this one by f_back: nothing may be left here of the task,
        # which holds the error.
        del task, fn, args
    else:
        task.finish(value, None)


@calls_user_code
def run_arrivals(hub: Hub, me: Worker, task: Task[Any]) -> None:
    """Call the function of a task with an arrival, and of those that persist and are next."""
    ready = hub.ready
    me.gr_context = context = Context()
    fn: Any = None
    try:
        if task.scope is not None:
            task.scope.check()  # cancelled before it started
        while True:
            arrival: Any = task.arrival
            if not arrival.readable:
                arrival.readable = me
            elif not arrival.arrived(me):
                break  # closed meanwhile: the call is dropped
            fn = task.fn  # in two steps: CPython 3.11 looks a slot that it calls up each time
            fn(task.args)
            if context:  # a call leaves nothing to the next one
                # Runs finalisers, perhaps: while there is a task to run them.
                me.gr_context = context = Context()
            if not task.persists:
                if task.scope is not None:
                    task.scope.check()  # cancelled
                break  # called once, or it has handed the connection over
            if arrival.readable or arrival.reader is not None:
                if arrival.fd < 0:
                    break
                arrival.refuse_if_awaited()
                if arrival.has_more():
                    hub.quota -= 1
                    if hub.quota >= 0:
                        continue  # as a task would go on receiving
                    arrival.readable = YES
                    task.glet = None
                    ready += (task,)
                    return
            # From here to the next task no call, as in park: nobody could say whose it is.
            task.glet = None
            arrival.reader = task
            task.wait = arrival
            if not ready:
                return
            task = ready[0]
            if task.glet is not None or not task.persists:
                return
            me.task = task
            del ready[0]
            task.glet = me
            hub.current = task
    except BaseException as error:
        task.arrival.left_by(me)  # type: ignore[union-attr]
        task_raised(hub, task, error)
        del task, fn  # as in run_task
    else:
        arrival.left_by(me)
        task.finish(None, None)


def task_raised(hub: Hub, task: Task[Any], error: BaseException) -> None:
    """The task's function raised: its own error, or what the hub's end throws into it."""
    if isinstance(error, GreenletExit) and hub.closed:
        task.end_with_hub()
        raise error
    task_failed(hub, task, error)


def task_failed(hub: Hub, task: Task[Any], error: BaseException) -> None:
    """The task's error goes to whoever waits for it, else to the hook: none is ever lost."""
    # The traceback's first frame is run_task's, which would keep the arguments alive.
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next
    cancelled = isinstance(error, Cancelled) and task.was_cancelled(error)
    observed = task.finish(None, error)
    if cancelled:
        task.leave_cancel(error)  # type: ignore[arg-type]
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        hub.to_main(error)
    elif not observed and not cancelled and not came_of_interrupt(error):
        report(task, error)
