"""Pollable: the readiness of one fd.

One edge-triggered registration (IN|OUT|RDHUP|ET) for as long as the fd is open, made when something
first has to wait for it, never modified.

Facts about epoll that shape this file
--------------------------------------
* An edge comes once. Data and FIN can arrive as *one* edge, so a closed bit is sticky (``hup``).
* The registration belongs to the open file, not to the number: a dup keeps it alive. So close
  removes it first, and an event carries a generation that must match.
* Regular files are refused (EPERM).

Invariants
----------
1. ``readable`` NO means: the kernel said so (EAGAIN, or a short read on a stream) and no edge came
   since, or the edge that came was handed to a waiter, which has not yet said what it left. YES
   means: worth a try. PERHAPS: something was read and the kernel has not said whether that was
   all; asking it first (``probe``) costs a fifth of the exception that a try in vain raises.
   A worker: it runs the task that an edge has started, whose first read needs no look at anything
   but who calls, and is not charged for. Only while that task runs, and unless a closed bit came.
   One that was asked in vain ``VAIN`` times running (a protocol of fixed sizes, read to the byte)
   is registered level-triggered instead, ``level``: then NO needs no proof, since what is left is
   reported by the next poll. The first report that finds no reader puts it back to edges.
2. ``reader`` and ``writer`` hold the one plain waiter, a task of the owning hub, so that the hot
   path allocates nothing. Any further ones sit in ``crowd``, served FIFO; nobody takes a slot past
   a crowd.
3. Readiness wakes one waiter. Who was woken and may have left something calls ``more_to_read``
   (``more_to_write``), which passes it on.
4. Flags, slots and crowd are touched by the owning hub's thread alone. Others post to its inbox.

Rejected: level-triggered with MOD per wait (a syscall per wait); level-triggered from the start
(a report at every poll, or a MOD, for each connection that has data and no reader); waking all
waiters of a listener (a herd in which all but one get EAGAIN, 1.5 µs each); one registration per
direction.
"""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from errno import EBADF
from threading import Lock
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from ..errors import NotPollable
from ..sys.epoll import EPOLLET, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP
from .local import local, this_hub
from .task import NOBODY
from .timers import FAR
from .wait import wake

if TYPE_CHECKING:
    from .hub import Hub
    from .task import Task

QUOTA = 61
"""Parks and immediate operations between two looks at the kernel (Go's number)."""

NO, YES, PERHAPS = False, 1, 2
"""NO is met most often, and CPython tests False without the call that an int takes."""

READ = EPOLLIN
WRITE = EPOLLOUT
VAIN = 2
LEVEL = EPOLLIN | EPOLLRDHUP | EPOLLPRI
INTEREST = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET
_VERB = {READ: "read", WRITE: "write"}
_LEVEL = {READ: select.POLLIN | select.POLLPRI | select.POLLRDHUP, WRITE: select.POLLOUT}


_adopting = Lock()


class _Hot:
    """What an event, its recv and a send touch, in the first cache line, as in a task's."""

    __slots__ = ("fd", "generation", "hub", "readable", "reader", "writable")


class Pollable(_Hot):
    """The readiness state of one fd, and who waits for it."""

    __slots__ = ("ask", "crowd", "hup", "level", "vain", "writer")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.hub: Hub = NO_HUB
        self.generation = -1
        self.reader: Task[Any] | None = None
        self.writer: Task[Any] | None = None
        self.readable: int | greenlet = YES
        self.writable = True
        self.hup = self.level = False
        self.vain = 0
        self.crowd: deque[Seat] | None = None
        self.ask: Callable[[int], list[tuple[int, int]]] | None = None

    # -- waiting ---------------------------------------------------------------------------------

    def wait_read(self) -> None:
        """Park until a read is worth another try (data, EOF, error or close)."""
        hub = self.hub
        task = hub.current
        if (
            task.glet is not getcurrent()
            or task.scope is not None
            or self.reader is not None
            or self.crowd is not None
        ):
            self.wait(READ)
            return
        self.reader = task
        task.wait = self
        try:
            trouble = hub.park(task)
        except BaseException:
            # Law 5, without a call: near the recursion limit it would be refused, too.
            if self.reader is task:
                self.reader = None
            task.wait = task.trouble = None
            self.readable = YES  # an edge may have been handed to it
            raise
        if trouble is not None:
            hub.settle(task, FAR)

    def wait_read_until(self, deadline: int) -> bool:
        """``wait_read`` with a deadline; False when that passed first."""
        # Written out beside wait_read, which servers without a time limit shall not pay for.
        hub = self.hub
        task = hub.current
        if (
            task.glet is not getcurrent()
            or task.scope is not None
            or self.reader is not None
            or self.crowd is not None
        ):
            return self.wait(READ, deadline)
        self.reader = task
        task.wait = self
        task.deadline = deadline
        try:
            if deadline < task.timer_at:
                hub.timers.arm(task, deadline)
            trouble = hub.park(task)
        except BaseException:
            # Law 5, without a call: near the recursion limit it would be refused, too.
            if self.reader is task:
                self.reader = None
            task.wait = task.trouble = None
            self.readable = YES  # an edge may have been handed to it
            raise
        finally:
            task.deadline = FAR
        return trouble is None or hub.settle(task, deadline)

    def wait_write(self) -> None:
        """Park until a write is worth another try."""
        self.wait(WRITE)

    def wait(self, direction: int, deadline: int = FAR) -> bool:
        """Park until ``direction`` is worth another try; False when ``deadline`` passed first."""
        hub = this_hub()
        task = hub.prepare()
        if self.hub is not hub and not self.adopt(hub):
            return self._wait_elsewhere(hub, task, direction, deadline)
        if direction == READ and self.reader is None and self.crowd is None:
            self.reader = task
            return hub.wait(task, self, deadline)
        if direction == WRITE and self.writer is None and self.crowd is None:
            if self.level:
                self.to_edges()
            self.writer = task
            return hub.wait(task, self, deadline)
        seat = Seat(self, task, direction)
        self.seat(seat)
        return hub.wait(task, seat, deadline)

    def abandon(self, task: Task[Any]) -> bool:
        if self.reader is task:
            self.reader = None
            return True
        if self.writer is task:
            self.writer = None
            return True
        return False

    def reason(self, task: Task[Any]) -> str:
        return f"{'read' if self.reader is task else 'write'} on fd {self.fd}"

    def _wait_elsewhere(self, hub: Hub, task: Task[Any], direction: int, deadline: int) -> bool:
        seat = RemoteSeat(self, task, direction)
        owner = self.hub
        owner.post(seat.take)
        if owner.closed:
            seat.offer()  # it closed meanwhile and may not have seen the seat
        return hub.wait(task, seat, deadline)

    # -- what a reader or writer found --------------------------------------------------------

    def drained(self) -> None:
        """A read met EAGAIN, or got less than it asked for on a stream: wait for the next edge."""
        if self.is_mine():
            self.readable = YES if self.hup else NO

    def probe(self) -> bool:
        """Ask the kernel, level-triggered, whether a read would find something."""
        if self.ask is None:
            poller = select.poll()
            poller.register(self.fd, _LEVEL[READ])
            self.ask = poller.poll
        try:
            found = self.ask(0)
        except RuntimeError:
            return True  # another hub's task asks at this moment: worth a try
        if found:
            self.vain = 0
            return True
        if getattr(local, "hub", None) is self.hub:
            self.readable = YES if self.hup else NO
            self.vain = vain = self.vain + 1
            fd = self.fd
            if (
                vain >= VAIN
                and fd >= 0
                and not self.hup
                and self.writer is None
                and self.crowd is None
            ):
                self.hub.epoll.modify(fd, LEVEL, self.generation << 32 | fd)
                self.level = True
                self.ask = None  # not needed any more
        return False

    def refuse_if_awaited(self) -> None:
        """Raises RuntimeError if somebody waits to read."""
        if self.reader is not None or any(seat.direction == READ for seat in self.crowd or ()):
            raise RuntimeError(
                f"fd {self.fd} is detached already, or a task waits to receive from it"
            )

    def arrived(self, worker: greenlet) -> bool:
        """``worker`` runs the task that stood by, whose edge this is; False when closed."""
        if self.fd < 0:
            return False
        self.readable = YES if self.hup else worker
        return True

    def left_by(self, worker: greenlet) -> None:
        """``worker`` has run the task, which may have read nothing at all."""
        if self.readable is worker:
            self.readable = YES

    def has_more(self) -> bool:
        """Whether there is something to read, for who would wait without a task. Owning hub."""
        if self.readable != NO and self.probe():
            return True
        self.ask = None  # its poller is bigger than all the rest of an idle connection
        return False

    def to_edges(self) -> None:
        """Back to edges: somebody waits to write, or nobody to read. On the owning hub."""
        self.level = False
        self.vain = 0
        self.reask(self.hub)

    def filled(self) -> None:
        """A write met EAGAIN or was cut short."""
        if self.is_mine() or self.hub.closed:
            self.writable = False

    def more_to_read(self) -> None:
        """A read succeeded and may have left something: the next waiter's turn."""
        if self.level:
            return  # the next poll tells
        self.readable = PERHAPS
        if self.reader is not None or self.crowd is not None:
            self._soon(self.pass_on)

    def more_to_write(self) -> None:
        """A write succeeded and the buffer may take more."""
        self.writable = True
        if self.writer is not None or self.crowd is not None:
            self._soon(self.pass_on)

    def charge(self) -> None:
        """The quota of operations that did not have to wait is used up: let the others run."""
        hub = this_hub()
        owner = self.hub
        if owner is not hub:
            owner.quota = owner.round
        if hub.current is not NOBODY:
            hub.yield_now()

    def is_mine(self) -> bool:
        """Whether the calling thread's hub owns the flags (invariant 4)."""
        return getattr(local, "hub", None) is self.hub

    # -- the owning hub ---------------------------------------------------------------------------

    def adopt(self, hub: Hub) -> bool:
        """Register with ``hub``, that of this thread, if no hub owns it; whether this one does now.

        Of two hubs whose tasks are the first to wait for an fd, at once, one is the owner.
        """
        try:
            _adopting.acquire()
            if self.hub.closed:
                self.register(hub)
        finally:
            _adopting.release()
        return self.hub is hub

    def register(self, hub: Hub, events: int = INTEREST, generation: int | None = None) -> None:
        """Make ``hub`` the owner; the first edges follow at its next poll if there is anything.

        Raises NotPollable for regular files, OSError (EBADF, ENOSPC) as epoll_ctl.
        """
        fd = self.fd
        if fd < 0:
            raise OSError(EBADF, os.strerror(EBADF))
        if generation is None:
            generation = hub.next_generation()
        hub.make_room(fd)
        data = generation << 32 | fd
        try:
            hub.epoll.add(fd, events, data)
        except FileExistsError:
            # The number was closed behind our back while a dup keeps the old file registered under
            # it, or another object holds the same number: the newer one gets the events.
            hub.epoll.modify(fd, events, data)
        except PermissionError as error:
            raise NotPollable(
                f"fd {fd} is a regular file or a directory, which epoll refuses: "
                "run the call through greenpump.offload"
            ) from error
        self.hub = hub
        self.level = False
        hub.table[fd] = self
        self.generation = generation
        # Another thread that closes the fd takes the number away first and looks at the generation
        # afterwards: one of the two sees the other.
        if self.fd < 0:
            with suppress(OSError):
                hub.epoll.remove(fd)
            hub.table[fd] = VACANT
            raise OSError(EBADF, os.strerror(EBADF))

    def reask(self, hub: Hub) -> None:
        """Have the kernel report the present readiness as a new edge."""
        events = INTEREST if self not in hub.wakeups else EPOLLIN | EPOLLET
        fd = self.fd
        if fd >= 0:  # else it was closed meanwhile, also by another thread: nobody waits for edges
            hub.epoll.modify(fd, events, self.generation << 32 | fd)

    def seat(self, seat: Seat) -> None:
        """Put a waiter at the end of the crowd."""
        if self.level:
            self.to_edges()
        if self.crowd is None:
            self.crowd = deque()
        self.crowd.append(seat)

    def pass_on(self) -> None:
        """Wake one waiter for each direction that is worth a try. On the owning hub."""
        if self.level:
            with suppress(OSError):  # closed behind our back, or by another thread just now
                self.to_edges()
        if self.readable:
            self._wake_one(READ)
        if self.writable:
            self._wake_one(WRITE)

    def _wake_one(self, direction: int) -> None:
        if direction == READ and self.reader is not None:
            task, self.reader = self.reader, None
            wake(task)
            return
        if direction == WRITE and self.writer is not None:
            task, self.writer = self.writer, None
            wake(task)
            return
        for seat in self.crowd or ():
            if seat.direction == direction:
                self.leave(seat)
                if seat.offer():
                    return
                self._wake_one(direction)
                return

    def leave(self, seat: Seat) -> bool:
        """Take a waiter out of the crowd; False if it isn't there."""
        crowd = self.crowd
        if crowd is None or seat not in crowd:
            return False
        crowd.remove(seat)
        if not crowd:
            self.crowd = None
        return True

    def close(self) -> None:
        """The fd is about to be closed or handed out: forget it and wake everybody.

        The woken find the socket closed (EBADF) when they try. Callable from any thread.
        """
        fd, self.fd = self.fd, -1
        hub = self.hub
        if fd < 0 or self.generation < 0 or hub.closed:
            return
        if hub.table[fd] is self:
            # The number may have been closed behind our back; closing it again will say so.
            with suppress(OSError):
                hub.epoll.remove(fd)
            hub.table[fd] = VACANT
        self._soon(self.wake_all)

    def _soon(self, step: Callable[[], None]) -> None:
        if self.is_mine():
            step()
        else:
            self.hub.post(step)

    def wake_all(self) -> None:
        """Wake every waiter. On the owning hub."""
        self.readable = YES
        self.writable = self.hup = True
        for direction in (READ, WRITE):
            while (self.reader if direction == READ else self.writer) is not None:
                self._wake_one(direction)
        while self.crowd is not None:
            self._wake_one(self.crowd[0].direction)


class _NoHub:
    """The owner of a pollable nobody has waited for yet: every fast path stumbles on it."""

    current = NOBODY
    closed = True
    quota = round = QUOTA  # what sockets that never had to wait use up together


NO_HUB: Any = _NoHub()
VACANT = Pollable(-1)
"""What stands in a hub's table where no fd is registered: no event's generation matches it."""


class Seat:
    """A waiter in a pollable's crowd, on the pollable's own hub."""

    __slots__ = ("direction", "pollable", "task")

    def __init__(self, pollable: Pollable, task: Task[Any], direction: int) -> None:
        self.pollable = pollable
        self.task = task
        self.direction = direction

    def offer(self) -> bool:
        """Hand the readiness over; False when the waiter is no longer interested."""
        wake(self.task)
        return True

    def abandon(self, task: Task[Any]) -> bool:
        return self.pollable.leave(self)

    def reason(self, task: Task[Any]) -> str:
        return f"{_VERB[self.direction]} on fd {self.pollable.fd}"


class RemoteSeat(Seat):
    """A waiter of another hub than the pollable's.

    Its deadline runs on its own hub while the owner offers readiness: who takes the token out of
    ``claim`` decides (``pop`` is atomic).
    """

    __slots__ = ("claim",)

    def __init__(self, pollable: Pollable, task: Task[Any], direction: int) -> None:
        super().__init__(pollable, task, direction)
        self.claim: list[None] = [None]

    def take(self) -> None:
        """Sit down, on the owning hub, unless the fd is ready already.

        The flags don't tell: a reader elsewhere may have met EAGAIN before the last edge. So the
        kernel is asked, level-triggered.
        """
        if not self.claim:
            return
        pollable = self.pollable
        if pollable.hub.table[pollable.fd] is not pollable:
            self.offer()  # closed meanwhile
            return
        poller = select.poll()
        poller.register(pollable.fd, _LEVEL[self.direction])
        if poller.poll(0):
            self.offer()
            return
        if self.direction == WRITE:
            pollable.writable = False  # or the coming edge would be taken for no news
        else:
            pollable.drained()
        pollable.seat(self)

    def offer(self) -> bool:
        try:
            self.claim.pop()
        except IndexError:
            return False
        wake(self.task)
        return True

    def abandon(self, task: Task[Any]) -> bool:
        try:
            self.claim.pop()
        except IndexError:
            return False
        self.pollable.hub.post(self._stand_up)
        return True

    def _stand_up(self) -> None:
        self.pollable.leave(self)
