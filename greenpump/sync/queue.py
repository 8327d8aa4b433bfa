"""Queue, LifoQueue, PriorityQueue: the standard library's queues, for tasks of any hub and threads.

What a Channel is not: it has no limit unless one is given, counts what is done with its items
(``task_done``, ``join``), may be sorted, and is shut down rather than closed. What it is: lines of
waiters served in turn, each handed its item, so that none is lost to a cancel. So a queue *has* a
channel, and adds the rest.

Invariants
----------
1. ``_line`` is a Channel with room for at least one item; its buffer may be a heap or a stack. What
   ``channel.py`` says of messages holds for items: who waits in ``get`` is handed the item by who
   puts it; who waits in ``put`` has its item let in by who takes one.
2. ``_unfinished`` counts the items that were put and not reported done, inside the line's latch. It
   goes up before the item can be seen, so that nobody reports it done earlier; a ``put`` that fails
   takes it back.
3. ``_all_done`` is there while somebody waits for ``_unfinished`` to be 0; then it is set, and the
   next to wait has a new one.
4. An item that can't be compared with the others is refused: ``put`` raises, and the item is not in
   the queue. One that waited for room is let in by somebody else's ``get``; it is refused through
   ``_Line.refused``, so that its own ``put`` raises all the same.

PriorityQueue compares items inside its latch, which therefore is its own: their ``__lt__`` must not
wait for anything, nor use the queue. And as with a channel, signal handlers and finalisers are to
spawn a task for it.

Rejected: queues from a lock and three conditions, as in the standard library (who is woken may be
overtaken, and waits again); Channel with a limit of infinity for all (``close`` and ``shutdown``,
``len`` and ``qsize``, scopes and timeouts are two idioms, each of them known by heart).
"""

from __future__ import annotations

import sys
from collections import deque
from contextlib import suppress
from heapq import heapify, heappop, heappush
from operator import index
from queue import Empty, Full
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from ..errors import ChannelClosed
from ..hub.local import this_hub
from ..hub.scope import move_on_after
from ..hub.task import Task
from ..hub.wait import wake
from .channel import ENDED, NOTHING, Channel, Parts
from .event import Event
from .latch import enters_latch, held_up, latched, own_latch
from .waiters import check_timeout

if sys.version_info >= (3, 13):
    from queue import ShutDown
else:

    class ShutDown(Exception):
        """Put on a queue that was shut down, or get when nothing is left in it.

        From Python 3.13 on this is ``queue.ShutDown``.
        """


__all__ = ["Empty", "Full", "LifoQueue", "PriorityQueue", "Queue", "ShutDown"]

T = TypeVar("T")


class _Buffer(Protocol):
    """What a line keeps its items in: the part of a deque that a channel uses."""

    def append(self, item: Any, /) -> None: ...
    def popleft(self) -> Any: ...
    def pop(self) -> Any: ...
    def __len__(self) -> int: ...


class _Stack(list[Any]):
    """The last that came is the first to go."""

    __slots__ = ()
    popleft = list.pop


class _Heap(list[Any]):
    """The least is the first to go. Whatever a comparison raises, nothing is lost or left over."""

    __slots__ = ()

    def append(self, item: Any, /) -> None:
        try:
            heappush(self, item)
        except BaseException:
            where = next(n for n, each in enumerate(self) if each is item)
            self[where] = self[-1]
            self.pop()
            heapify(self)
            raise

    def popleft(self) -> Any:
        least = self[0]
        try:
            return heappop(self)
        except BaseException:
            list.append(self, least)
            raise


class _Line(Channel[T]):
    """The channel of a queue."""

    __slots__ = ("_kind", "refused")
    _buffer: Any
    _parts: Parts

    def __init__(self, kind: str, capacity: int, buffer: _Buffer) -> None:
        super().__init__(capacity)
        self._kind = kind
        self.first_used()
        if type(buffer) is _Heap:
            self._quick = False
            self._fit(own_latch(), buffer)  # inside which items are compared, by code of the user's
        else:
            self._fit(self._latch, buffer)
        self.refused: dict[Task[Any], BaseException] = {}

    def _get(self) -> tuple[Any, Task[Any] | None]:
        buffer = self._buffer
        # In this order: what waits outside is not yet in the queue, be it the least or the last.
        try:
            item = buffer.popleft()
        except IndexError:
            if buffer:
                raise  # by a comparison
            return (ENDED if self._closed else NOTHING), None
        while self._senders:
            sender, waiting = self._senders.popitem(False)
            assert type(sender) is Task  # no select stands here
            try:
                buffer.append(waiting)
            except BaseException as error:
                self.refused[sender] = error
                wake(sender)  # inside the latch, since only one can be returned: it is told, too
            else:
                return item, sender
        return item, None

    def drain(self) -> int:
        """Drop all items; how many there were. The line is closed: nobody waits."""
        return len(latched(self._latch, self._take_all))

    def _take_all(self) -> list[Any]:
        """All items; their finalisers are not to run inside the latch."""
        taken = []
        with suppress(IndexError):  # one by one: a ``recv`` may take some at the same time
            while True:
                taken.append(self._buffer.pop())
        return taken

    def reason(self, task: Task[Any]) -> str:
        return f"{'put into' if task in self._senders else 'get from'} {self!r}"

    def __repr__(self) -> str:
        state = f"{len(self._buffer)}"
        state += f" of {self._capacity} items" if self._capacity < sys.maxsize else " items"
        for waiters, verb in ((self._senders, "put"), (self._receivers, "get")):
            if waiters:
                state += f", {len(waiters)} waiting to {verb}"
        return f"<{self._kind} at {id(self):#x}: {state}{', shut down' if self._closed else ''}>"


class Queue(Generic[T]):
    """A queue: first in, first out, of at most ``maxsize`` items (0 and below: no limit).

    ``put`` parks while it is full, ``get`` while it is empty, ``join`` while items are not reported
    done; ``shutdown`` ends all that. Each is served in the order of coming. Usable from tasks of
    any hub and from any thread. Between tasks that only pass messages on, a Channel does as well,
    and ``select`` knows it. A signal handler or finaliser is to spawn a task that uses it.

    Source: queue.Queue, its ``shutdown`` of Python 3.13 included, on every Python.
    """

    __slots__ = ("__weakref__", "_all_done", "_line", "_unfinished")
    _buffer: ClassVar[type[Any]] = deque

    def __init__(self, maxsize: int = 0) -> None:
        maxsize = index(maxsize)
        capacity = maxsize if maxsize > 0 else sys.maxsize
        self._line: _Line[T] = _Line(type(self).__name__, capacity, self._buffer())
        self._unfinished = 0
        self._all_done: Event | None = None

    @enters_latch
    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Put ``item`` into the queue; parks while it is full, for at most ``timeout`` seconds.

        Raises Full when that time passes, or at once if ``block`` is False; ShutDown when the queue
        is shut down, or gets shut down while this waits; Cancelled; ValueError for a negative
        timeout; what the comparison of items raises. In each case the item was not put.
        """
        line = self._line
        if block:
            line._quota = quota = line._quota - 1
            if quota < 0:
                line._charge()
            if timeout is not None:
                check_timeout(timeout)
        enter, leave, buffer, receivers, senders = line._parts
        try:
            enter()
        except BaseException as error:
            held_up(line._latch, error)
        try:
            # By far the most frequent; as ``Channel.send``, and counted inside the same latch.
            if len(buffer) < line._capacity and not receivers and not senders and not line._closed:
                buffer.append(item)
                self._unfinished += 1
                return
        finally:
            leave()
        self._count(1)
        try:
            if not block:
                if not line.try_send(item):
                    raise Full
            elif timeout is None:
                line.send(item)
            else:
                with move_on_after(timeout) as scope:
                    line.send(item)
                if scope.expired:
                    raise Full
            if line.refused and (refusal := self._refusal()) is not None:
                raise refusal
        except BaseException as error:
            self._count(-1)
            if line.refused:
                self._refusal()  # something else was raised before this task saw it
            if isinstance(error, ChannelClosed):
                raise ShutDown(f"nothing can be put into {self!r}") from None
            raise

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take the next item; parks while there is none, for at most ``timeout`` seconds.

        Raises Empty when that time passes, or at once if ``block`` is False; ShutDown when the
        queue is shut down and empty; Cancelled, in which case nothing was taken; ValueError for a
        negative timeout.
        """
        line = self._line
        try:
            if not block:
                item: Any = line.try_recv(NOTHING)
                if item is NOTHING:
                    raise Empty
                return item  # type: ignore[no-any-return]
            if timeout is None:
                return line.recv()
            check_timeout(timeout)
            with move_on_after(timeout):
                return line.recv()
            raise Empty
        except ChannelClosed:
            raise ShutDown(f"nothing is left in {self!r}") from None

    def put_nowait(self, item: T) -> None:
        """``put(item, block=False)``. Doesn't park."""
        self.put(item, False)

    def get_nowait(self) -> T:
        """``get(block=False)``. Doesn't park."""
        return self.get(False)

    def task_done(self) -> None:
        """Report one item that ``get`` gave as done. Doesn't park.

        Raises ValueError when more are reported than were put.
        """
        latched(self._line._latch, self._one_done)

    def join(self) -> None:
        """Park until every item that was put has been reported done. Raises Cancelled."""
        all_done = latched(self._line._latch, self._unfinished_end)
        if all_done is not None:
            all_done.wait()

    def shutdown(self, immediate: bool = False) -> None:
        """No more putting: ``get`` gives what is left, then raises ShutDown. Doesn't park.

        Those that wait in ``put``, and in ``get``, get ShutDown. ``immediate`` drops what is left,
        and counts it as done. Again it does no harm.
        """
        try:
            self._line.close()
        except ChannelClosed:
            pass  # the second time
        if immediate:
            self._count(-self._line.drain())

    def qsize(self) -> int:
        """How many items are in it."""
        return len(self._line)

    def empty(self) -> bool:
        """Whether there is none; somebody may put one at any moment."""
        return not len(self._line)

    def full(self) -> bool:
        """Whether it has no room; somebody may take one at any moment."""
        return len(self._line) >= self._line.capacity

    @property
    def maxsize(self) -> int:
        """How many items it has room for; 0: any number."""
        return self._line.capacity if self._line.capacity < sys.maxsize else 0

    @property
    def is_shutdown(self) -> bool:
        """Whether ``shutdown`` was called; items may be left nevertheless."""
        return self._line.closed

    @property
    def unfinished_tasks(self) -> int:
        """How many items were put, or are about to be, and are not reported done."""
        return self._unfinished

    def __repr__(self) -> str:
        return repr(self._line)

    def _count(self, change: int) -> None:
        latched(self._line._latch, self._add, change)

    def _one_done(self) -> None:
        if not self._unfinished:
            raise ValueError(f"more items were reported done than were put into {self!r}")
        self._add(-1)

    def _unfinished_end(self) -> Event | None:
        """What is set when all is done; None if it is."""
        if self._unfinished and self._all_done is None:
            self._all_done = Event()
        return self._all_done

    def _add(self, change: int) -> None:
        # What was reported done before it was taken can't be counted as dropped as well.
        self._unfinished = max(0, self._unfinished + change)
        if self._all_done is not None and not self._unfinished:
            self._all_done.set()
            self._all_done = None

    def _refusal(self) -> BaseException | None:
        """What the comparison raised when somebody let this task's item in."""
        return self._line.refused.pop(this_hub().current, None)


class LifoQueue(Queue[T]):
    """A stack: the item that came last is taken first. As Queue in all else.

    Source: queue.LifoQueue.
    """

    __slots__ = ()
    _buffer = _Stack


class PriorityQueue(Queue[T]):
    """The least item is taken first, by ``<``; usually they are tuples ``(number, item)``.

    As Queue in all else; ``put`` raises what the comparison does, and has put nothing then.
    Source: queue.PriorityQueue.
    """

    __slots__ = ()
    _buffer = _Heap
