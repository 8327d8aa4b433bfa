"""Hub: one thread's scheduler.

What it is: a run queue, an epoll instance, a heap of timers and a pool of workers. A task that has
to wait *parks*: it runs the scheduler right there, on its own stack. It pops the next ready task
and switches straight to it (one switch); if nothing is ready it polls the kernel itself, and if
what arrives is its own event it returns with no switch at all. There is no scheduler greenlet to
bounce through.

Laws (each has a test in tests/hub/test_laws.py)
------------------------------------------------
1.  The hub runs no user code. It only readies tasks; a user's function runs on a worker.
2.  Root gives birth. Workers are started from root, a greenlet made with the hub, so a worker
    starts at root's shallow depth wherever it was spawned. Never start a greenlet from a task;
    never re-parent. (A chain of tasks each started from the last one's park dies after 500.)
3.  All that can fail comes before the pop. After ``ready.popleft()`` only C calls of the same depth
    follow, so a RecursionError can't lose the popped task; one before it hands over to root.
4.  Ctrl-C never lands inside hub code (``interrupt.py``).
5.  A wait and its undoing are one construct (``wait.py``).
6.  An unexpected error in hub code breaks the hub loudly: HubError in the main task.
7.  Always-ready tasks starve nobody. What can refill the run queue without the kernel (a yield, a
    wake, a spawn that a worker takes at once) or avoid parking (an immediate send) is charged to
    ``quota``; when that is spent the kernel is polled, without blocking. Waits for fds are not
    charged: a batch of events is used up by running it. Where what is charged takes long, less of
    it goes between two polls, so that they are about ``SLICE_NS`` apart.
8.  Asleep for ever is an error: Deadlock in the main task (``deadlock.py``).
9.  Park resumes the greenlet that parked, also one the user made inside a task.
10. Finalisers and signal handlers may run between any two lines here. While hub code runs
    ``current`` is NOBODY, so one that would park is told so, and never re-enters the scheduler.
11. One switch point: ``park`` (and the worker's and root's hand-over). ``testing.seeded`` sends
    every park through root, also to bisect scheduler bugs.

Chores (timers, inbox, signals, crowds) are root's: it has the stack for them. They are asked for by
putting ``root_task`` into the run queue like any task; the pollables of timerfd, eventfd and the
signal wake-up have it as their reader.

Rejected: a hub greenlet every wait bounces through (two switches, and a lone waiter pays both);
running callbacks from the poll (whose stack? whose exception?); one lock around the run queue (only
this thread touches it; others append to ``inbox``).
"""

from __future__ import annotations

import threading
from _thread import get_ident
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from greenlet import GreenletExit, getcurrent, greenlet

from ..errors import HubError
from ..sys.epoll import EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP, Epoll
from ..sys.eventfd import Eventfd
from ..sys.timerfd import Timerfd
from . import deadlock, interrupt
from . import task as task_module
from .local import FREE_THREADED, hubs, local, maker
from .pollable import QUOTA, VACANT, YES, Pollable, RemoteSeat
from .scope import TIMED_OUT
from .task import NOBODY, Task, new_task
from .timers import FAR, Timers
from .wait import YIELD
from .worker import Worker, worker_main

if TYPE_CHECKING:
    from .wait import Wait

EVENTS_A_POLL = 256
PATIENCE_MS = 50
"""How long a first sleep lasts before the hub asks itself whether it is deadlocked."""
SLICE_NS = 10_000_000
"""About how long the kernel is not looked at while tasks compute and yield (as Go's sysmon)."""
MAX_IDLE_WORKERS = 1000
"""An idle worker keeps about 6 KB; beyond this many a finished one dies."""

_PLAIN = EPOLLIN | EPOLLOUT
_CLOSED = EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI
"""After any of these a short read no longer means that the kernel's buffer is empty."""
_BROKEN = EPOLLHUP | EPOLLERR


class Hub:
    """One thread's scheduler. Made at the thread's first use of greenpump, or by ``run``."""

    __slots__ = (
        "__weakref__",
        "autojump",
        "closed",
        "creator",
        "crowded",
        "current",
        "ending",
        "epoll",
        "eventfd",
        "events",
        "externals",
        "fleet",
        "generation",
        "ident",
        "idle_ms",
        "idle_workers",
        "inbox",
        "interrupts",
        "kernel_objects",
        "main",
        "max_idle_workers",
        "newborn",
        "nobody",
        "now",
        "patience",
        "polls",
        "quota",
        "ready",
        "root",
        "root_task",
        "round",
        "sleeping",
        "spent",
        "stealable",
        "table",
        "thread",
        "timers",
        "unarmed",
        "wakeups",
        "watchers",
        "workers",
    )

    def __init__(self) -> None:
        self.closed = self.ending = False
        self.thread = threading.current_thread()
        self.ident = get_ident()
        self.timers = Timers()
        self.now = self.timers.clock()
        self.table: list[Pollable] = [VACANT] * 64
        self.generation = 0
        self.ready: deque[Task[Any]] = deque()
        self.inbox: deque[Task[Any] | Callable[[], None]] = deque()
        self.stealable: deque[Task[Any]] = deque()
        self.crowded: list[Pollable] = []
        self.sleeping = False
        self.quota = self.round = QUOTA
        self.polls = self.events = self.spent = 0
        self.externals = 0
        self.fleet: list[Hub] = []  # the shared list, once this hub is one of it
        self.patience = self.idle_ms = PATIENCE_MS
        self.autojump: Callable[[], bool] | None = None
        self.watchers: deque[Task[Any]] = deque()
        self.nobody = NOBODY
        self.newborn: Task[Any] | None = None
        self.unarmed: Task[Any] | None = None
        self.workers: set[Worker] = set()
        self.idle_workers: list[Worker] = []
        self.max_idle_workers = MAX_IDLE_WORKERS

        self.creator = creator = getcurrent()
        self.kernel_objects = ExitStack()
        self.main: Task[Any] = new_task(self, None, (), None, None, None)
        self.main.name = f"main of {self.thread.name}"
        self.main.glet = creator
        self.current: Task[Any] = self.main

        self.root = greenlet(root_main, creator)
        self.root_task: Task[Any] = new_task(self, None, (), None, None, None)
        self.root_task.name = f"root of {self.thread.name}"
        self.root_task.glet = self.root
        self.interrupts: interrupt.Interrupts | None = None
        self.root.switch(self, creator)
        try:
            self.open_kernel_objects()
            self.interrupts = interrupt.install(self)
        except BaseException:
            # With a full fd table, say. Nothing has been told of this hub yet.
            self.close()
            raise
        hubs.append(self)
        local.hub = self
        local.guard = _Guard(self)
        creator.task = self.main  # type: ignore[attr-defined]

    # -- parking: the calling task's side --------------------------------------------------------

    def prepare(self) -> Task[Any]:
        """The current task, about to register somewhere and park.

        Raises Cancelled inside a cancelled scope, HubError where nothing may park: in a finaliser
        or signal handler that struck inside hub code.
        """
        task = self.current
        me = getcurrent()
        if task.glet is not me:
            if self.closed:
                raise HubError(f"the hub of {self.thread.name} has ended: nothing can park on it")
            if task is NOBODY:
                raise HubError(
                    "a finaliser or signal handler that interrupted the scheduler tried to park; "
                    "let it spawn a task for what has to wait"
                )
            task.glet = me  # a greenlet of the user's own, inside the task
        if task.scope is not None:
            task.scope.check()
        return task

    def wait(self, task: Task[Any], on: Wait, deadline: int = FAR) -> bool:
        """Park ``task``, which stands registered with ``on``; False when ``deadline`` ended it.

        Raises Cancelled when a scope around it did.
        """
        task.wait = on
        try:
            if task.scope is not None:
                limit = min(deadline, task.scope.earliest())
                task.deadline = limit
                if limit < task.timer_at:
                    self.timers.arm(task, limit)
            elif deadline != FAR:
                task.deadline = deadline
                if deadline < task.timer_at:
                    self.timers.arm(task, deadline)
            trouble = self.park(task)
        except RecursionError:
            # arm or park lacked depth, and so may abandon. Root has it: it arms and goes on.
            self.unarmed = task
            self.current = NOBODY
            try:
                self.root.switch()  # no deeper than getcurrent() was in prepare
            finally:
                self.current = task
            trouble = task.trouble
        except BaseException:
            if task.wait is on:
                on.abandon(task)
            task.trouble = None
            raise
        finally:
            task.deadline = FAR
            # A thread that woke us before ``task.wait = on`` above cleared it too early.
            task.wait = None
        return True if trouble is None else self.settle(task, deadline)

    def park(self, task: Task[Any]) -> object | None:
        """Run the scheduler until somebody readies ``task``, the current one.

        Returns None when it was woken, else why its wait was abandoned (``settle`` decides).
        """
        ready = self.ready
        self.current = NOBODY
        task.since = self.now
        try:
            try:
                while not ready:
                    self.idle()
                following = ready[0]
                try:
                    ready.popleft()
                except RecursionError:
                    raise
                except BaseException:
                    # A signal handler of the program's raised, before or after the pop.
                    if following not in ready:
                        ready.appendleft(following)
                    raise
            except RecursionError:
                # Nothing was popped (law 3). Root has the depth that this task lacks.
                self.root.switch()
            else:
                # From here on only a C call no deeper than popleft, and none before the switch:
                # neither a RecursionError nor a handler that raises can lose the popped task.
                # ``following`` is cleared, or a parked task would keep the one it switched to
                # alive after its end.
                if following is not task:
                    glet = following.glet
                    if glet is None:
                        self.newborn = following
                        idle = self.idle_workers
                        if idle:
                            glet = idle[-1]
                            del idle[-1]
                        else:
                            glet = self.root
                    following = None  # type: ignore[assignment]
                    glet.switch()
        finally:
            self.current = task
        return task.trouble

    def settle(self, task: Task[Any], deadline: int) -> Literal[False]:
        """The wait was abandoned: return False for its own deadline, raise for all else."""
        trouble, task.trouble = task.trouble, None
        if isinstance(trouble, BaseException):
            raise trouble
        scope = task.scope
        now = self.timers.clock()
        if scope is not None and not (
            trouble is TIMED_OUT and deadline <= now and deadline <= scope.earliest()
        ):
            scope.mark_expired(now)
            scope.check()
        return False

    def yield_now(self) -> None:
        """Let every task that is ready now run first (``spawning.yield_now`` after its checks)."""
        task = self.prepare()
        self.go_round(task)

    def go_round(self, task: Task[Any]) -> None:
        """Put ``task`` at the end of the run queue and park it. Charged to the quota (law 7)."""
        self.quota = quota = self.quota - 1
        if quota < 0:
            self.poll_now()
        task.wait = YIELD
        try:
            self.ready.append(task)
            trouble = self.park(task)
        except BaseException:
            if task in self.ready:
                self.ready.remove(task)
            raise
        finally:
            task.wait = None
        if trouble is not None:
            self.settle(task, FAR)

    # -- polling: run by whichever task has nothing else to run -----------------------------------

    def poll_now(self) -> None:
        """Look at the kernel and the inbox without blocking (law 7)."""
        before, self.now = self.now, self.timers.clock()
        quota = self.next_round(self.now - before)
        self.spent += self.round - self.quota
        self.quota = self.round = quota
        if self.inbox:
            self.ready.append(self.root_task)
        if self.stealable:
            self.take_unstarted()
        try:
            self.deliver(self.epoll.poll(0))
        except RecursionError:
            raise
        except BaseException as error:
            self.fail(error)

    def next_round(self, elapsed: int) -> int:
        """The quota until the next poll, after one that took so many nanoseconds."""
        if elapsed > SLICE_NS:
            return self.round * SLICE_NS // elapsed
        return min(2 * self.round + 1, QUOTA)

    def refilled(self) -> None:
        """The run queue was added to, on this thread, and that is not yet all."""
        if self.sleeping:
            # A finaliser or signal handler struck between the last look and the sleep.
            self.nudge()
        elif self.quota < 0 and self.current is not NOBODY:
            # Not out of hub code, which may be reading the last poll's events at this moment.
            self.poll_now()

    def idle(self) -> None:
        """Nothing is ready: sleep in the kernel until something may be."""
        if self.inbox:
            self.ready.append(self.root_task)
            return
        if self.fleet and self.take_unstarted():
            return
        self.sleeping = True
        try:
            # The sleeper announces itself, then looks once more; who posts appends, then looks
            # whether somebody sleeps. One of the two sees the other.
            if FREE_THREADED:
                _full_fence()
            if self.inbox:
                self.ready.append(self.root_task)
                return
            if self.fleet and self.take_unstarted():
                return
            self.spent += self.round - self.quota
            self.quota = self.round
            flat = self.epoll.poll(self.idle_ms)
            self.sleeping = False
            self.now = self.timers.clock()
            if flat:
                self.deliver(flat)
            else:
                self.nothing_came()
        except RecursionError:
            raise
        except BaseException as error:
            self.fail(error)
        finally:
            self.sleeping = False

    def deliver(self, flat: list[int]) -> None:
        """Note each event on its pollable and ready who waits there. C calls only (law 3)."""
        self.polls += 1
        self.events += len(flat) // 3
        self.idle_ms = self.patience
        table = self.table
        ready = self.ready
        words = iter(flat)
        for events, fd, generation in zip(words, words, words, strict=True):
            pollable = table[fd]
            if pollable.generation != generation:
                continue  # the number was closed after the kernel reported it
            if (events == _PLAIN and pollable.writable) or events == EPOLLIN:
                # By far the most frequent: data came, and with an edge OUT is reported beside it.
                waiter = pollable.reader
                if waiter is not None:
                    pollable.reader = waiter.wait = None
                    ready.append(waiter)
                    continue
            if events & _CLOSED:
                pollable.hup = True
                pollable.readable = YES
                events |= _PLAIN if events & _BROKEN else EPOLLIN
            if events & EPOLLIN:
                waiter = pollable.reader
                if waiter is not None:
                    pollable.reader = waiter.wait = None
                    ready.append(waiter)
                else:
                    pollable.readable = YES
                    if pollable.crowd is not None or pollable.level:
                        self.crowded.append(pollable)
                        ready.append(self.root_task)
            if events & EPOLLOUT and not pollable.writable:
                pollable.writable = True
                waiter = pollable.writer
                if waiter is not None:
                    pollable.writer = waiter.wait = None
                    ready.append(waiter)
                elif pollable.crowd is not None:
                    self.crowded.append(pollable)
                    ready.append(self.root_task)

    def nothing_came(self) -> None:
        """The hub slept and nothing arrived: is there anything that could?"""
        if self.watchers:
            watcher = self.watchers.popleft()
            watcher.wait = None
            self.ready.append(watcher)
        elif self.autojump is not None and self.autojump():
            self.ready.append(self.root_task)
        else:
            deadlock.look(self)

    # -- root's side -----------------------------------------------------------------------------

    def chores(self) -> None:
        """All that isn't switching: timers, crowds, signals, and what other threads posted."""
        # What comes by the inbox passes deliver by, and starts a new round of patience, too.
        self.idle_ms = self.patience
        for pollable in self.wakeups:
            pollable.reader = self.root_task
        if self.interrupts is not None:
            self.interrupts.drain()
        if self.unarmed is not None:
            task, self.unarmed = self.unarmed, None
            if task.deadline != FAR:
                self.timers.arm(task, task.deadline)
        self.timers.expire()
        if self.crowded:
            crowded, self.crowded = self.crowded, []
            for pollable in crowded:
                pollable.pass_on()
        inbox = self.inbox
        for _ in range(len(inbox)):
            item = inbox.popleft()
            if type(item) is Task:
                self.ready.append(item)
            else:
                item()  # type: ignore[operator]

    def to_main(self, error: BaseException) -> None:
        """Raise ``error`` in the main task, at its present or else its next wait."""
        if getattr(error, "told_to_main", False):
            return  # a Group hands a member's SystemExit on to its host, which may be main
        main = self.main
        stands_ready = main.trouble is not None or main.wait is YIELD
        if isinstance(main.trouble, BaseException) or not (
            stands_ready or main.abandon_wait(error)
        ):
            self.inbox.append(partial(self.to_main, error))  # at its next wait, then
            return
        main.trouble = error
        error.told_to_main = True  # type: ignore[attr-defined]

    def fail(self, error: BaseException) -> None:
        """Hub code raised (law 6), or a signal handler of the program's did while it ran.

        Events may have been lost with it: every registration is asked anew.
        """
        self.inbox.append(partial(self.recover, error))  # one step, for root: poll_now sees it

    def recover(self, error: BaseException) -> None:
        """What ``fail`` asked for. Root only."""
        if interrupt.raised_by_hub(error):
            broken = HubError(f"the hub of {self.thread.name} failed: {error!r}")
            broken.__cause__ = error
            error = broken
        for pollable in set(self.table):
            if pollable is not VACANT:
                with suppress(OSError):  # closed behind our back
                    pollable.reask(self)
        self.to_main(error)

    # -- from other threads ----------------------------------------------------------------------

    def post(self, item: Task[Any] | Callable[[], None]) -> None:
        """Ready a claimed task, or run a step of hub code, on this hub's thread. From anywhere."""
        self.inbox.append(item)
        self.nudge()

    def nudge(self) -> None:
        """Wake the hub if it sleeps in the kernel. From any thread or signal handler."""
        if self.sleeping:
            # Clearing it here spares further posters the write; whoever clears it writes.
            self.sleeping = False
            self.eventfd.write()

    def take_unstarted(self) -> bool:
        """Move one unstarted task here that any hub may run; False if there is none."""
        # One that is ending has cancelled its tasks: what it took from others nobody would cancel.
        for hub in (self,) if self.ending else (self, *self.fleet):
            if not hub.stealable:
                continue
            self.idle_ms = self.patience  # a verdict of deadlock.py is taken back before anything
            try:
                task_module._moving.acquire()
                if not hub.stealable:
                    continue
                task = hub.stealable.popleft()
                task.hub = self
            finally:
                task_module._moving.release()
            self.ready.append(task)
            return True
        return False

    def load(self) -> int:
        """How many tasks stand in line here, and one for the task that runs."""
        waiting = len(self.ready) + len(self.stealable) + len(self.inbox)
        return waiting + (0 if self.sleeping else 1)

    # -- kernel objects ----------------------------------------------------------------------------

    def open_kernel_objects(self) -> None:
        """Make epoll and what wakes it: for a new hub, and anew for a forked one."""
        with ExitStack() as made:
            self.epoll = made.enter_context(Epoll(EVENTS_A_POLL))
            self.eventfd = made.enter_context(Eventfd())
            self.timers.timerfd = made.enter_context(Timerfd())
            self.wakeups: list[Pollable] = []
            self.watch_internal(self.eventfd.fd)
            self.watch_internal(self.timers.timerfd.fd)
            self.kernel_objects = made.pop_all()

    def close_kernel_objects(self) -> None:
        """Close them; twice does no harm."""
        self.kernel_objects.close()

    def fds(self) -> set[int]:
        """The fds the hub itself holds, registrations left out."""
        own = {self.epoll.fd, *(pollable.fd for pollable in self.wakeups)}
        return own if self.interrupts is None else own | self.interrupts.fds()

    def next_generation(self) -> int:
        """A tag no earlier registration had (it wraps after four billion)."""
        self.generation = (self.generation + 1) & 0xFFFFFFFF
        return self.generation

    def make_room(self, fd: int) -> None:
        """Let the table reach ``fd``."""
        table = self.table
        if fd >= len(table):
            table.extend([VACANT] * (fd + 1 - len(table) + len(table) // 2))

    def watch_internal(self, fd: int) -> None:
        """Have root run the chores whenever ``fd`` becomes readable."""
        pollable = Pollable(fd)
        pollable.register(self, EPOLLIN | EPOLLET)
        pollable.reader = self.root_task
        self.wakeups.append(pollable)

    def live_tasks(self) -> list[Task[Any]]:
        """Every task of this hub that has not ended, the main task left out."""
        started = [getattr(worker, "task", None) for worker in self.workers.copy()]
        queued = [*_copy(self.ready), *_copy(self.stealable), *_copy(self.inbox)]
        queued += self.timers.owners()  # tasks that spawn_later will start
        fresh = dict.fromkeys(item for item in queued if type(item) is Task and item.glet is None)
        return [task for task in (*started, *fresh) if task is not None and not task.done]

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """End the workers and close the fds. From the main task, which must not park any more.

        A task that is still parked is dropped: GreenletExit unwinds it, so that its ``finally``
        blocks run.
        """
        if self.closed:
            return
        self.end()
        if getattr(local, "hub", None) is self:
            del local.hub, local.guard

    def end(self) -> None:
        """``close``, but for the thread's locals."""
        self.closed = True
        self.current = self.main
        self.root.switch()  # returns, and is dead
        while self.idle_workers:
            self.idle_workers.pop().switch()
        for worker in list(self.workers):
            if worker.task is not None:
                worker.task.glet = None  # so that a clean-up that would park is told, by prepare
            worker.throw(GreenletExit)
        for pollable in self.table:
            task = pollable.reader
            if task is not None and task.arrival is pollable:
                task.args.close()  # a detached connection: only this slot holds it
                task.end_with_hub()
        self.release()
        # Nothing takes the fast paths any more: neither this greenlet's nor its sockets'.
        self.current = NOBODY
        with suppress(AttributeError):
            del self.creator.task  # type: ignore[attr-defined]

    def release(self) -> None:
        """Give back what the process holds for this hub: fds, the signal wake-up, its entry."""
        self.closed = True
        if hubs is not None:  # else the interpreter exits, and nobody waits any more
            for pollable in self.table:
                for seat in pollable.crowd or ():
                    if isinstance(seat, RemoteSeat):
                        seat.offer()  # it finds the owner closed, and registers at home
            for step in _copy(self.inbox):
                owner = getattr(step, "__self__", None)
                if isinstance(owner, RemoteSeat):
                    owner.offer()
            if self in hubs:
                hubs.remove(self)
        if self.interrupts is not None:
            self.interrupts.uninstall()
        self.close_kernel_objects()


class _Guard:
    """Lives in the thread's locals: a thread that ends takes its hub, fds and greenlets along."""

    __slots__ = ("hub",)

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def __del__(self) -> None:
        hub = self.hub
        if hub.closed:
            return
        # The main thread's goes with the interpreter, whose modules may be gone by now.
        if hub.interrupts is None and get_ident() == hub.thread.ident:
            # Only here, in its own thread, can its greenlets still be ended. Not ``close``: asking
            # for a local of a thread that drops them makes new ones, which nobody drops.
            hub.end()
        else:
            hub.release()


def root_main(hub: Hub, creator: greenlet) -> None:
    """Root: bears workers, does the chores, and runs what is next when a worker has died."""
    creator.switch()
    # Twice, since a ``try`` doesn't cover the jump back to the loop around it, where a signal
    # handler of the program's may raise as well as anywhere.
    while not hub.closed:
        try:
            persist(hub)
        except BaseException as error:
            hub.fail(error)


def persist(hub: Hub) -> None:
    """Do root's work, whatever a signal handler raises in it."""
    while not hub.closed:
        try:
            root_work(hub)
        except MemoryError as error:
            hub.fail(error)
            if hub.newborn is not None:  # no room for one more greenlet: it is not tried for ever
                task, hub.newborn = hub.newborn, None
                task.finish(None, error)
        except BaseException as error:
            hub.fail(error)


def root_work(hub: Hub) -> None:
    """Root's loop. Pops without a call, as ``park``: a handler that raises loses no task."""
    ready = hub.ready
    idle = hub.idle_workers
    while not hub.closed:
        if hub.newborn is not None:
            Worker(worker_main, hub.root).switch(hub)
            continue
        hub.current = NOBODY
        hub.chores()
        while not ready:
            hub.idle()
        glet = ready[0].glet
        if glet is None:
            hub.newborn = ready[0]
            del ready[0]
            if idle:
                glet = idle[-1]
                del idle[-1]
                glet.switch()
        else:
            del ready[0]
            if glet is not hub.root:
                glet.switch()


def _copy(line: deque[Any]) -> list[Any]:
    """What stands in a line that other threads add to and take from."""
    while True:
        try:
            return list(line)
        except RuntimeError:  # without the GIL: it changed meanwhile
            continue


_fence = threading.Lock()


def _full_fence() -> None:
    """Order the stores before it and the loads after it, on builds without the GIL."""
    try:
        _fence.acquire()
    finally:
        _fence.release()


def live_fds() -> set[int]:
    """The fds that live hubs hold for themselves; for tests that count leaks."""
    return set().union(*(hub.fds() for hub in hubs))


maker.append(Hub)
