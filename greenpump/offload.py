"""offload: run a call that blocks in a thread of a pool, while only the calling task waits.

For what epoll can't wait for: regular files, the system's name resolver, C libraries, a long
computation that releases the GIL.

Invariants
----------
1. A job is in exactly one place: ``_queue`` (all threads are busy), ``_running``, or done. It moves
   under the pool's lock. A thread that has run one looks into the queue under that lock before it
   calls itself idle, so no job lies in the queue while a thread idles. Only then does it tell of
   the job's end: who makes one call after the other needs one thread.
2. The end of a call and the departure of its task race: whoever takes ``call.task`` under the lock
   has won. A result that lost is dropped, and a wake-up is never sent to a task that has left.
3. ``hub.externals`` counts the tasks of a hub that wait for a call. Only its own thread writes it.
4. Idle threads are taken last in, first out, so the surplus ages, and ends after ``LINGER``.

How many threads. A pool's limit is no matter of cores: what runs there waits in the kernel. It is
the number of *slow* calls that may be outstanding before a quick one has to queue. With gevent's
pool of 10, ten unanswered names stall every other look-up (gevent #1904); Go allows 500 at once.
Here it is 64: a thread costs nothing before it is needed and some 30 KB then. Names have a pool of
their own (``net/dns.py``), so that neither slow files nor slow names starve the other.

Rejected: ``concurrent.futures`` (it joins its threads at exit, where a stuck call would hang the
program, and never ends one; its results come with a lock and a condition per call); one thread per
call (50 µs each, and no bound).
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextvars import Context, copy_context
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, Protocol, TypeVar
from weakref import WeakSet

from .errors import HubError
from .hub.deadlock import Bystander
from .hub.interrupt import calls_user_code
from .hub.local import hub_or_none, this_hub
from .hub.wait import wake

if TYPE_CHECKING:
    from .hub.task import Task

__all__ = ["Pool", "offload", "retire_idle"]

P = ParamSpec("P")
T = TypeVar("T")

MAX_THREADS: Final = 64
LINGER: Final = 10.0
"""Seconds that an idle thread stays for the next call."""


class Job(Protocol):
    """What a pool runs."""

    def run(self) -> None:
        """Do it. On a pool thread; must not raise."""

    def ended(self) -> None:
        """It has been run: wake who waits. On the same thread; must not raise."""

    def lost(self) -> None:
        """A fork took the pool's threads away: tell who waits. In the child."""


class Pool:
    """Threads for calls that block: made on demand, reused, ended when idle for ten seconds.

    ``offload`` uses one that all share. A program whose calls should not queue behind others' makes
    its own, with at most ``max_threads`` threads. Usable from every hub and thread. They are daemon
    threads: a call that never returns doesn't keep the program from ending.
    """

    def __init__(self, name: str = "pool", max_threads: int = MAX_THREADS) -> None:
        if max_threads < 1:
            raise ValueError(f"a pool needs at least one thread: max_threads={max_threads}")
        self.name = name
        self.max_threads = max_threads
        self._lock = threading.Lock()
        self._queue: OrderedDict[Job, None] = OrderedDict()
        self._running: set[Job] = set()
        self._idle: list[_PoolThread] = []
        self._threads = 0
        self._numbers = count(1)
        _pools.add(self)

    @calls_user_code
    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """``offload`` in this pool."""
        if not callable(fn):
            raise TypeError(f"offload needs a callable, not {fn!r}")
        if hub_or_none() is None and isinstance(threading.current_thread(), _PoolThread):
            return fn(
                *args, **kwargs
            )  # it blocks nobody here, and a full pool can't wait for itself
        hub = this_hub()
        task = hub.prepare()
        call = _Call(self, task, fn, args, kwargs)
        hub.externals += 1
        try:
            self.start(call)
            hub.wait(task, call)
        finally:
            hub.externals -= 1
        return call.outcome()

    def start(self, job: Job) -> None:
        """Have ``job.run()`` called in a thread, in the order of starting. Doesn't park.

        Raises RuntimeError when the pool has no thread and the system gives it none.
        """
        thread = None
        with self._lock:
            grow = not self._idle and self._threads < self.max_threads
            if grow:
                self._threads += 1
                self._running.add(job)
            else:
                thread = self._assign(job)
        if grow:
            try:
                _PoolThread(self, job, f"{self.name}-{next(self._numbers)}").start()
            except RuntimeError as error:
                with self._lock:
                    self._threads -= 1
                    self._running.discard(job)
                    if not self._threads:
                        error.add_note(f"the pool {self.name!r} has no thread for this call")
                        raise
                    thread = self._assign(job)
        if thread is not None:
            thread.give(job)

    def _assign(self, job: Job) -> _PoolThread | None:
        """An idle thread for ``job``, to be given it; None: it is queued. The lock is held."""
        if self._idle:
            self._running.add(job)
            return self._idle.pop()
        self._queue[job] = None
        return None

    def drop(self, job: Job) -> bool:
        """Take back a job that no thread has begun; False when one has. Doesn't park."""
        with self._lock:
            if job not in self._queue:
                return False
            del self._queue[job]
            return True

    def retire(self) -> None:
        """End the threads that idle now, and wait until they are gone (microseconds).

        For tests that count threads, and for programs that fork: a child of a process with one
        thread is a sound one.
        """
        with self._lock:
            idle, self._idle = self._idle, []
            self._threads -= len(idle)
        for thread in idle:
            thread.give(None)
        for thread in idle:
            thread.join()

    def __repr__(self) -> str:
        return (
            f"<Pool {self.name!r}: {len(self._running)} calls running, {len(self._queue)} queued, "
            f"{self._threads} of at most {self.max_threads} threads>"
        )

    # -- for the pool's own threads ----------------------------------------------------------------

    def _next_job(self, thread: _PoolThread) -> Job | None:
        """What ``thread`` is to run next; None: it idles from now on, until it is given a job."""
        with self._lock:
            if not self._queue:
                self._idle.append(thread)
                return None
            job, _ = self._queue.popitem(last=False)
            self._running.add(job)
            return job

    def _done(self, job: Job) -> None:
        job.ended()
        with self._lock:
            self._running.discard(job)

    def _stand_down(self, thread: _PoolThread) -> bool:
        """An idle thread has waited long enough; False when it was given a job just now."""
        with self._lock:
            if thread not in self._idle:
                return False
            self._idle.remove(thread)
            self._threads -= 1
            return True

    def _forked(self) -> None:
        """The child has none of the threads: begin anew. The pool's lock is held."""
        lost = [*self._running, *self._queue]
        self._running.clear()
        self._queue.clear()
        self._idle.clear()
        self._threads = 0
        self._lock.release()
        for job in lost:
            job.lost()


class _PoolThread(Bystander):
    """A thread of a pool. A Bystander: what it could wake, ``hub.externals`` counts."""

    def __init__(self, pool: Pool, job: Job, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._pool = pool
        self._job: Job | None = job
        self._given = threading.Lock()
        self._given.acquire()

    def give(self, job: Job | None) -> None:
        """Let the idle thread run ``job``, or end."""
        self._job = job
        self._given.release()

    def run(self) -> None:
        pool = self._pool
        job, self._job = self._job, None
        while job is not None:
            job.run()
            finished, job = job, pool._next_job(self)
            pool._done(finished)
            del finished
            if job is None:
                if not self._given.acquire(timeout=LINGER):
                    if pool._stand_down(self):
                        return
                    self._given.acquire()
                job, self._job = self._job, None


class _Call(Generic[T]):
    """One offloaded call, and the wait for its end."""

    __slots__ = ("args", "context", "error", "fn", "kwargs", "label", "pool", "task", "value")
    value: T

    def __init__(
        self,
        pool: Pool,
        task: Task[Any],
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.pool = pool
        self.task: Task[Any] | None = task
        self.context: Context | None = copy_context()
        self.fn: Callable[..., T] | None = fn
        self.label = getattr(fn, "__qualname__", None) or type(fn).__name__
        self.args = args
        self.kwargs = kwargs
        self.error: BaseException | None = None

    @calls_user_code
    def run(self) -> None:
        assert self.context is not None
        assert self.fn is not None
        try:
            self.value = self.context.run(self.fn, *self.args, **self.kwargs)
        except BaseException as error:
            if error.__traceback__ is not None:  # this frame would keep the arguments alive
                error.__traceback__ = error.__traceback__.tb_next
            self.error = error
        self.context = self.fn = None
        self.args, self.kwargs = (), {}

    def ended(self) -> None:
        with self.pool._lock:
            task, self.task = self.task, None
            if task is not None:
                wake(task)  # under the lock: a fork finds the task unclaimed or in the inbox

    def lost(self) -> None:
        task = self.task
        if task is not None and task.hub is hub_or_none():
            self.error = HubError(
                f"the process forked while {self.label} was offloaded: the thread that ran it is "
                "the parent's, and what became of the call is known there only"
            )
            self.ended()

    def outcome(self) -> T:
        """The call's result, once it has ended; or its error, raised."""
        error, self.error = self.error, None
        if error is None:
            return self.value
        try:
            raise error
        finally:
            del error  # its traceback holds this frame

    def abandon(self, task: Task[Any]) -> bool:
        with self.pool._lock:
            if self.task is None:
                return False
            self.task = None
            self.pool._queue.pop(self, None)
            return True

    def reason(self, task: Task[Any]) -> str:
        queued = self in self.pool._queue
        return f"offloaded call of {self.label}" + (
            f" (queued: all {self.pool.max_threads} threads are busy)" if queued else ""
        )


_pools: WeakSet[Pool] = WeakSet()
_shared = Pool("offload")


def offload(fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``fn(*args, **kwargs)``, which blocks, in another thread; park until it has ended.

    Returns what it returns, raises what it raises with its traceback. It sees a copy of the
    caller's contextvars. At most 64 calls run at once, further ones queue, first in first out.

    When a scope's deadline or a cancel ends the wait, this call leaves at once. A call that was
    still queued is then never made; one that runs can't be stopped: it goes on in its thread, and
    its result or error is dropped. ``fn`` must be fit for another thread, and finds no task there:
    what it does blocks its thread alone. Called inside an offloaded call it just calls ``fn``.

    After a fork the child has new threads; a task that waited for a call in the parent gets a
    HubError in the child.

    Raises TypeError when ``fn`` is not callable, RuntimeError when no thread can be started,
    Cancelled. Source: trio.to_thread.run_sync, asyncio.to_thread.
    """
    return _shared.call(fn, *args, **kwargs)


def retire_idle() -> None:
    """``Pool.retire`` for every pool of the process."""
    for pool in list(_pools):
        pool.retire()


# A fork in the midst of a pool's bookkeeping would leave the child a lock that nobody releases.
_held: list[Pool] = []


def _before_fork() -> None:
    for pool in list(_pools):
        pool._lock.acquire()
        _held.append(pool)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop()._lock.release()


def _after_fork_in_child() -> None:
    while _held:
        _held.pop()._forked()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
