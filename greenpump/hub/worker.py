"""Worker: a pooled greenlet that runs tasks one after another.

Invariants
----------
1. A worker that finished a task takes the next job itself. If that job is a new task it runs it
   with no switch at all.
2. An idle worker stands in ``hub.idle_workers``, suspended in its own ``switch``; whoever wants it
   puts the task into ``hub.newborn`` and switches to it.
3. While suspended, no local of a worker refers to a task that is not its own: a finished task's
   result must not live on because a worker sleeps.
4. ``run_task`` is the only function of the hub that calls user code.

Frames are kept few and calls plain (``fn(a)`` rather than ``fn(*args)``, which before 3.13 nests a
C frame): what lies on a suspended stack is what a parked task costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit, getcurrent, greenlet

from ..errors import Cancelled
from .interrupt import calls_user_code, came_of_interrupt
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
            run_task(hub, task)
        except GreenletExit:
            raise
        except BaseException as error:
            # A signal handler of the program's raised while the end was being recorded.
            task_failed(hub, task, error)
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
            hub.quota -= 1
            task = ready[0]
            del ready[0]
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
    except GreenletExit as error:
        if not hub.closed:
            task_failed(hub, task, error)  # the program's own
            return
        task.finish(None, Cancelled(f"the hub of task {task.name} has ended"))
        raise
    except BaseException as error:
        task_failed(hub, task, error)
        # The traceback's frames reach this one by f_back: nothing may be left here of the task,
        # which holds the error.
        del task, fn, args
    else:
        task.finish(value, None)


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
