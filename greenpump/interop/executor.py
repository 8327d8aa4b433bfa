"""TaskExecutor: tasks behind the interface of concurrent.futures.

Invariants
----------
1. A job is in ``_waiting`` (``limit`` others run), or has a task, or has ended. ``_running``
   counts the second kind, ``_unfinished`` the first two. All change under ``_lock``, which is never
   held while something of the user's is called.
2. A future stays PENDING for the stdlib until its call has ended: so ``cancel`` succeeds meanwhile,
   and ends the task. ``concurrent.futures.wait`` counts a cancelled one when its task has ended.
3. The user's callbacks run in the job's own task, or in the thread that calls ``cancel``. (Of a job
   that something else cancels before it starts: in the hub.)
4. The executor's own thread knows nothing of the executor: dropping that ends the thread.
5. In the child of a fork the hub says of each task of another thread that it has ended. The locks
   which that takes may be held by threads that are not there any more: they are made anew.

Rejected: subclassing ThreadPoolExecutor (a thread for each call is what one wants to be rid of);
``cancel`` that returns False once the call runs, as for threads (asyncio's cancel would reach its
Future and not the work; a task can be cancelled).
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import Context, copy_context
from sys import _getframe
from types import CodeType
from typing import Any, Final, ParamSpec, TypeVar
from weakref import WeakSet

from greenlet import GreenletExit

from ..errors import Cancelled, HubError
from ..hub.hub import Hub
from ..hub.interrupt import calls_user_code
from ..hub.local import hub_or_none, this_hub
from ..hub.report import report
from ..hub.task import Task, new_task
from ..hub.threads import END_GRACE, _end_tasks, enqueue, find_hub
from ..sync.event import Event

P = ParamSpec("P")
T = TypeVar("T")

EXIT_GRACE: Final = 2.0
"""Seconds that tasks have to end, once cancelled, when the program does."""


class TaskExecutor(Executor):
    """A ``concurrent.futures.Executor`` whose calls are tasks.

    For programs of threads or asyncio that want thousands of calls to wait at once:
    ``await loop.run_in_executor(executor, fetch, url)``, and for libraries that take an executor.
    Its tasks run on a thread of its own, started at the first call, or on ``hub``, which then has
    to wait in greenpump now and then. At most ``limit`` run at once, the others queue.

    ``submit``, ``map`` and ``shutdown`` are the stdlib's and can be called from any thread and
    task. In a task ``future.result()`` parks; in a thread without a hub it blocks, as
    ``concurrent.futures.wait`` and ``as_completed`` do anywhere. ``future.cancel()`` succeeds also
    for a call that runs: its task is cancelled, as by ``Task.cancel``. Calls see a copy of the
    submitter's contextvars.

    Use it as a context manager: at the end of the program what still runs on its thread is not
    waited for but cancelled, and has two seconds. Raises ValueError for a limit below 1.
    Source: concurrent.futures.ThreadPoolExecutor.
    """

    def __init__(self, limit: int | None = None, *, hub: Hub | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"an executor's limit must be at least 1: {limit}")
        if hub is not None:
            find_hub(hub)
        self._limit = limit
        self._hub = hub
        self._thread: _HubThread | None = None
        self._lock = threading.Lock()
        self._waiting: deque[_Job] = deque()
        self._running = 0
        self._unfinished = 0
        self._closed = self._ended = False
        self._empty = TaskFuture[None]()  # nothing is left to do, nor ever will be

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have ``fn(*args, **kwargs)`` called in a task. Neither parks nor blocks.

        Raises RuntimeError after ``shutdown`` and once the program has ended the executors'
        threads, HubError when the executor's hub has ended, TypeError when ``fn`` is not callable.
        """
        if not callable(fn):
            raise TypeError(f"submit needs a callable, not {fn!r}")
        frame = _getframe(1)
        future = TaskFuture[T]()
        site = (frame.f_code, frame.f_lasti)
        job = _Job(self, future, fn, args, kwargs, copy_context(), site)
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._provide_hub()
            self._unfinished += 1
            self._waiting.append(job)
        self._start_some()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; ``cancel_futures``: nor start those that queue.

        With ``wait`` parks (in a thread without a hub: blocks) until all calls have ended. The
        executor's own thread ends with the last one; other tasks that were spawned there are
        cancelled. As often as you like.
        """
        with self._lock:
            self._closed = True
            dropped = list(self._waiting) if cancel_futures else []
            if dropped:
                self._waiting.clear()
            self._unfinished -= len(dropped)
            empty = not self._unfinished
        for job in dropped:
            job.give_up()
        if empty:
            self._end()
        if wait:
            self._empty.result()
            if self._thread is not None and self._thread is not threading.current_thread():
                self._thread.gone.result()
                self._thread.join()

    def __repr__(self) -> str:
        limit = "" if self._limit is None else f" of at most {self._limit}"
        closed = ", shut down" if self._closed else ""
        return (
            f"<TaskExecutor at {id(self):#x}: {self._running} running{limit}, "
            f"{len(self._waiting)} waiting{closed}>"
        )

    # -- jobs --------------------------------------------------------------------------------------

    def _provide_hub(self) -> None:
        if _exiting and (self._hub is None or self._thread is not None):
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if self._hub is None:
            self._thread = _HubThread()
            self._hub = self._thread.launch()
            # Not at the program's end: that ends the thread by itself, and waits for nobody.
            weakref.finalize(self, self._thread.leave.set).atexit = False
        find_hub(self._hub)  # it may have ended meanwhile

    def _start_some(self) -> None:
        """Start what waits, as far as the limit allows."""
        hub = self._hub
        assert hub is not None
        while True:
            with self._lock:
                if not self._waiting or self._running == self._limit:
                    return
                job = self._waiting.popleft()
                self._running += 1
            try:
                job.start(hub)
            except HubError as error:  # it has ended
                job.settle(error, None)
                self._count_ended()

    def renew_locks(self) -> None:
        """In the child of a fork: who holds the locks of what still waits may be gone."""
        self._lock = threading.Lock()
        self._empty._condition = threading.Condition()
        for job in self._waiting:
            job.renew_lock()

    def job_ended(self) -> None:
        """A job that was started has ended."""
        self._count_ended()
        self._start_some()

    def _count_ended(self) -> None:
        with self._lock:
            self._running -= 1
            self._unfinished -= 1
            empty = self._closed and not self._unfinished
        if empty:
            self._end()

    def _end(self) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
        if self._thread is not None:
            self._thread.leave.set()
        self._empty.set_result(None)


class TaskFuture(Future[T]):
    """The Future of a task: waiting for it in a task parks, and its call can always be cancelled.

    Made by ``TaskExecutor.submit``. Source: concurrent.futures.Future.
    """

    def __init__(self) -> None:
        super().__init__()
        self.task: Task[Any] | None = None
        self._done_event: Event | None = None

    def cancel(self) -> bool:
        """Cancel the call, whether it runs or not; False when it has ended. Doesn't park."""
        if not super().cancel():
            return False
        if self.task is not None:
            self.task.cancel("its future was cancelled")
        return True

    def running(self) -> bool:
        """Whether the call has begun and has not ended."""
        return not self.done() and self.task is not None and self.task.glet is not None

    def result(self, timeout: float | None = None) -> T:
        """What the call returned, or its error, raised. Parks; without a hub it blocks.

        Raises TimeoutError when ``timeout`` seconds pass first, concurrent.futures.CancelledError,
        Cancelled.
        """
        try:
            return Future.result(self, self._park(timeout))
        finally:
            self = None  # type: ignore[assignment]  # the error's traceback holds this frame

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The call's error, or None. Parks, and raises, as ``result``."""
        return Future.exception(self, self._park(timeout))

    def _park(self, timeout: float | None) -> float | None:
        """Park until it is done, where there is a hub; how long the stdlib may wait then."""
        if self.done() or hub_or_none() is None:
            return timeout
        event = self._done_event
        if event is None:
            event = self._done_event = Event()
            self.add_done_callback(lambda _: event.set())
        # Executor.map asks for what is left of its time, which may be less than nothing.
        event.wait(None if timeout is None else max(timeout, 0))
        return 0


class _Job:
    """One call; who wants to know of its task's end (task.Joiner)."""

    __slots__ = (
        "_args",
        "_context",
        "_executor",
        "_fn",
        "_future",
        "_kwargs",
        "_site",
        "observer",
    )

    def __init__(
        self,
        executor: TaskExecutor,
        future: TaskFuture[Any],
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: Context,
        site: tuple[CodeType, int],
    ) -> None:
        self._executor = executor
        self._fn: Callable[..., Any] | None = fn
        self._args = args
        self._kwargs = kwargs
        self._context: Context | None = context
        self._site = site
        self._future: TaskFuture[Any] | None = future
        self.observer = True

    def start(self, hub: Hub) -> None:
        """Give it a task. Raises HubError when ``hub`` has ended."""
        find_hub(hub)
        context, self._context = self._context, None
        task = new_task(hub, _perform, (self,), None, context, self._site)
        task.name = getattr(self._fn, "__qualname__", None) or type(self._fn).__name__
        future = self._future
        assert future is not None
        future.task = task
        task.when_done(self)
        enqueue(task, hub)
        if future.cancelled():
            task.cancel("its future was cancelled")  # it was, before that knew of the task

    @calls_user_code
    def call(self) -> Any:
        """Call the function."""
        fn, args, kwargs = self._fn, self._args, self._kwargs
        self._fn, self._args, self._kwargs = None, (), {}
        assert fn is not None
        return fn(*args, **kwargs)

    def was_cancelled(self, error: BaseException) -> bool:
        """Whether ``error`` is the end of the call's task, rather than of the call."""
        task = None if self._future is None else self._future.task
        assert task is not None
        if isinstance(error, GreenletExit):
            # Not this_hub(): in a thread that is ending there is none any more, or a new one.
            return task.hub.closed
        return isinstance(error, Cancelled) and task.was_cancelled(error)

    @calls_user_code
    def settle(self, error: BaseException | None, value: Any) -> None:
        """The call has ended: tell the future, which calls its callbacks."""
        future = self._leave_future()
        if not future.set_running_or_notify_cancel():
            if error is not None and future.task is not None:
                report(future.task, error)  # nobody will ask
        elif error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    @calls_user_code
    def give_up(self) -> None:
        """The call was cancelled, by its future or by something else."""
        future = self._leave_future()
        Future.cancel(future)
        future.set_running_or_notify_cancel()

    def renew_locks(self) -> None:
        """Invariant 5 (task.Locking)."""
        self.renew_lock()
        self._executor.renew_locks()

    def renew_lock(self) -> None:
        """In the child of a fork: who holds the future's lock may be gone."""
        if self._future is not None:
            self._future._condition = threading.Condition()

    def _leave_future(self) -> TaskFuture[Any]:
        # The frames below the user's function hold the job, and the error's traceback holds them:
        # with the future, which holds the error, that would be a cycle.
        future, self._future = self._future, None
        assert future is not None
        return future

    def ended(self) -> None:
        if self._future is not None:
            self.give_up()  # it never began
        self._executor.job_ended()


@calls_user_code
def _perform(job: _Job) -> None:
    """What a job's task runs."""
    try:
        value = job.call()
    except BaseException as error:
        if job.was_cancelled(error):
            job.give_up()
            raise
        if error.__traceback__ is not None:  # this frame and call's would keep the job alive
            error.__traceback__ = error.__traceback__.tb_next.tb_next  # type: ignore[union-attr]
        job.settle(error, None)
    else:
        job.settle(None, value)


class _HubThread(threading.Thread):
    """A thread that does nothing but run the tasks of its hub, until it is told to leave."""

    def __init__(self) -> None:
        super().__init__(name="tasks of an executor", daemon=True)
        self.leave = Event()
        self.gone = TaskFuture[None]()
        self._up: Future[Hub] = Future()
        self._grace = END_GRACE

    def launch(self) -> Hub:
        """Start it; blocks until its hub is there. Raises what keeps it from that (OSError)."""
        self.start()
        hub = self._up.result()
        _threads.add(self)
        return hub

    def exit(self) -> None:
        """The program ends: cancel what runs, and don't wait for long."""
        self._grace = EXIT_GRACE
        self.leave.set()
        self.join(EXIT_GRACE + 1)

    def run(self) -> None:
        try:
            hub = this_hub()
        except BaseException as error:
            self._up.set_exception(error)
            return
        hub.externals += 1  # what it waits for comes from other threads: no deadlock
        self._up.set_result(hub)
        while not self.leave.is_set():
            try:
                self.leave.wait()
            except BaseException as error:
                self._tell(error)
        _end_tasks(hub, hub.timers.after(self._grace), self._tell)
        hub.close()
        self.gone.set_result(None)

    def _tell(self, error: BaseException) -> None:
        """A task that is no job's ended with what ends a thread: say so, and go on."""
        threading.excepthook(
            threading.ExceptHookArgs((type(error), error, error.__traceback__, self))
        )


_threads: WeakSet[_HubThread] = WeakSet()
_exiting = False
"""Nobody would end another thread any more."""


@atexit.register
def _exit() -> None:
    global _exiting
    _exiting = True
    # Python kills daemon threads where they stand. One that is in a greenlet then takes the whole
    # process with it (a segmentation fault), so this one has to be gone before.
    for thread in list(_threads):
        thread.exit()
