"""map, imap, imap_unordered: one function for many items, so many at a time.

Invariants
----------
1. One task, the driver, takes the items and starts a call for each; all of them are in its Group.
   So the results end, or fail, only when no call runs any more.
2. ``_running`` holds a token for each call that runs, ``_ahead`` one for each item that was taken
   and whose result was not. The driver has both *before* it takes an item: one that it took is
   started at once, and none is lost in between (they may be messages of a channel).
3. ``results`` has room for as many as ``_ahead``: putting a result there never waits.
4. In order: a result waits in ``_early`` until all before it have been put.
5. What the user holds is ``Results``, to which nothing here refers: when that is dropped, the
   driver is cancelled.

How far it runs ahead: ``limit`` calls run, and up to as many results wait to be taken. So one slow
item does not stop the others at once, and a slow taker stops them soon.

Rejected: a pool object (gevent, multiprocessing): what bounds tasks that belong together is a
Group, and a pool that outlives its users has nobody to tell of an error; a generator as the result
(closing it waits, which a finaliser must not; and it can't be used by several tasks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from operator import index
from sys import _getframe
from threading import Lock
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from ..errors import Cancelled, ChannelClosed, TaskCancelled
from ..hub.interrupt import calls_user_code
from ..hub.report import report
from ..hub.scope import shield
from ..hub.spawning import current, spawn
from .channel import Channel
from .group import Group, reason_after

if TYPE_CHECKING:
    from ..hub.hub import Hub
    from ..hub.task import Task
    from ..hub.threads import Any_

T = TypeVar("T")


def imap(
    fn: Callable[..., T],
    /,
    *iterables: Iterable[Any],
    limit: int,
    hub: Hub | Any_ | None = None,
) -> Results[T]:
    """The results of ``fn(item)`` for each item, in their order; ``limit`` calls run at once.

    Each call has a task of its own, on this hub, or on ``hub``; ``ANY`` spreads them. It begins
    at the caller's next wait. Of the iterables, which may wait and never end (a channel, say), one
    item at a time is taken, when there is a place for its call, and never more than twice ``limit``
    ahead of the results. Several iterables give ``fn`` several arguments, as in ``zip``.

    The first error, of a call or an iterable, cancels the other calls; when all have ended, and the
    results before it were taken as far as they exist, it is raised by the iteration. What fails on
    the way out goes to ``excepthook``. A call that is cancelled by itself counts as failed.

    ``with imap(...) as results:`` ends all calls with the block, however that ends. Without it a
    loop that is left early cancels them, but does not wait for their end. Doesn't park; the
    iteration does. Raises ValueError for a limit below 1, TypeError. Source: gevent.pool.Pool.imap.
    """
    return _begin(fn, iterables, limit, hub, True)


def imap_unordered(
    fn: Callable[..., T],
    /,
    *iterables: Iterable[Any],
    limit: int,
    hub: Hub | Any_ | None = None,
) -> Results[T]:
    """``imap``, with each result as soon as it is there. Doesn't park; the iteration does.

    All results that were there before an error come before it. Source:
    gevent.pool.Pool.imap_unordered.
    """
    return _begin(fn, iterables, limit, hub, False)


def map(
    fn: Callable[..., T],
    /,
    *iterables: Iterable[Any],
    limit: int,
    hub: Hub | Any_ | None = None,
) -> list[T]:
    """``imap`` as a list: parks until all calls have ended.

    Raises the first error once the others were cancelled and have ended, and Cancelled likewise.
    Source: gevent.pool.Pool.map.
    """
    found = []
    with _begin(fn, iterables, limit, hub, True) as results:
        # Not list(results): without the GIL that would hold a lock of CPython's over the waits.
        for value in results:
            found.append(value)
    return found


def _begin(
    fn: Callable[..., T],
    iterables: tuple[Iterable[Any], ...],
    limit: int,
    hub: Hub | Any_ | None,
    ordered: bool,
) -> Results[T]:
    if not callable(fn):
        raise TypeError(f"imap needs a callable, not {fn!r}")
    if not iterables:
        raise TypeError("imap needs something to iterate over")
    limit = index(limit)
    if limit < 1:
        raise ValueError(f"imap's limit must be at least 1: {limit}")
    frame = _getframe(2)
    iterators = [iter(each) for each in iterables]
    items = _singly(iterators[0]) if len(iterators) == 1 else zip(*iterators, strict=False)
    return Results(_Work(fn, items, limit, hub, ordered, (frame.f_code, frame.f_lasti)))


@calls_user_code
def _singly(items: Iterator[Any]) -> Iterator[tuple[Any]]:
    for item in items:
        yield (item,)


class Results(Iterator[T], Generic[T]):
    """The results of ``imap``: an iterator, which several tasks, hubs and threads may share.

    Iterating parks. Each result goes to one of them, and an error, too; then it has ended for all.
    Source: what gevent.pool.Pool.imap returns.
    """

    __slots__ = ("__weakref__", "_work")

    def __init__(self, work: _Work[T]) -> None:
        self._work = work

    def __next__(self) -> T:
        """Parks until there is a result. Raises Cancelled, which takes none and ends no call."""
        work = self._work
        try:
            if work.closed:
                raise StopIteration
            value = work.results.recv()
        except ChannelClosed:
            error = work.take_error()
        else:
            work.taken()
            return value
        if error is None or work.closed:
            raise StopIteration
        try:
            if isinstance(error, StopIteration):  # it would look like the end; PEP 479
                raise RuntimeError(f"{work.label} raised StopIteration") from error
            raise error
        finally:
            del error

    def close(self) -> None:
        """Cancel the calls that run and park until they have ended; no more results come.

        Raises what the last of them raised on the way out, if that was not raised before.
        """
        self._close("its results were closed")

    def _close(self, reason: str | BaseException) -> None:
        work = self._work
        work.closed = True
        if not work.driver.done:
            work.driver.cancel(reason)
            with shield():
                work.driver.join()
        error = work.take_error()
        if error is not None:
            try:
                raise error
            finally:
                del error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close(reason_after(error) or "its results were closed")

    def __del__(self) -> None:
        self._work.abandon()

    def __repr__(self) -> str:
        work = self._work
        return f"<Results of {work.label} at {id(self):#x}: {work.state()}>"


class _Work(Generic[T]):
    """What the driver and its calls share; who wants to know of the driver's end (task.Joiner)."""

    __slots__ = (
        "_ahead",
        "_early",
        "_error",
        "_fn",
        "_group",
        "_hub",
        "_items",
        "_lock",
        "_next",
        "_ordered",
        "_running",
        "_site",
        "abandoned",
        "closed",
        "driver",
        "label",
        "observer",
        "results",
    )
    driver: Task[None]

    def __init__(
        self,
        fn: Callable[..., T],
        items: Iterator[tuple[Any, ...]],
        limit: int,
        hub: Hub | Any_ | None,
        ordered: bool,
        site: tuple[CodeType, int],
    ) -> None:
        self.label = getattr(fn, "__qualname__", None) or type(fn).__name__
        self.observer = True
        self.closed = self.abandoned = False
        self._fn = fn
        self._items: Iterator[tuple[Any, ...]] | None = items
        self._hub = hub
        self._ordered = ordered
        self._site = site
        self._running = Channel[None](limit)
        self._ahead = Channel[None](2 * limit)
        self.results = Channel[T](2 * limit)
        self._lock = Lock()
        self._early: dict[int, T] = {}
        self._next = 0
        self._error: BaseException | None = None
        self._group = Group()
        # Not a method: its end drops the arguments, and with them what would be a cycle.
        self.driver = spawn(_drive, self)
        self.driver.name = f"imap of {self.label}"
        self.driver.site = site
        self.driver.when_done(self)

    # -- the driver --------------------------------------------------------------------------------

    @calls_user_code
    def drive(self) -> None:
        """Start a call for each item, and wait for them all."""
        try:
            with self._group:
                self._start_calls()
        except BaseExceptionGroup as errors:
            self._failed(errors.exceptions[0])
            for error in errors.exceptions[1:]:
                report(current(), error)
        except Cancelled:
            raise
        except BaseException as error:
            self._failed(error)
            raise

    def ended(self) -> None:
        """The driver has ended, and may never have begun."""
        if self.driver.cancelled and not self.closed:
            self._error = TaskCancelled(f"{self.driver.name} was cancelled")
        self._items = None
        self._early.clear()
        self.results.close()

    def renew_locks(self) -> None:
        """In the child of a fork: threads that are not there may hold them."""
        self._lock = Lock()
        self.results.renew_latch()

    @calls_user_code
    def _start_calls(self) -> None:
        items = self._items
        assert items is not None
        for number in count():
            self._ahead.send(None)
            self._running.send(None)
            try:
                arguments = next(items)
            except StopIteration:
                self._running.try_recv()
                self._ahead.try_recv()
                return
            if self._hub is None:
                task = self._group.spawn(self._call, number, arguments)
            else:
                task = self._group.spawn_on(self._hub, self._call, number, arguments)
            task.name = f"{self.label}[{number}]"
            task.site = self._site

    @calls_user_code
    def _call(self, number: int, arguments: tuple[Any, ...]) -> None:
        try:
            value = self._fn(*arguments)
        except Cancelled as error:
            if self._group._scope.cancelled:
                raise
            raise TaskCancelled(f"{current().name} was cancelled") from error
        self._running.try_recv()
        if not self._ordered:
            self.results.try_send(value)
            return
        with self._lock:
            early = self._early
            early[number] = value
            while self._next in early:
                self.results.try_send(early.pop(self._next))
                self._next += 1

    # -- the taker ---------------------------------------------------------------------------------

    def taken(self) -> None:
        """A result was taken: the driver may go on."""
        self._ahead.try_recv()

    def take_error(self) -> BaseException | None:
        """The error that ended it all, for the first who asks."""
        with self._lock:
            error, self._error = self._error, None
            return error

    def abandon(self) -> None:
        """Nobody asks any more. Called by a finaliser.

        That may have struck inside the lock of what the driver waits for: the hub cancels it.
        """
        self.closed = self.abandoned = True
        if not self.driver.done or self._error is not None:
            self.driver.hub.post(self._drop)

    def _drop(self) -> None:
        if self.driver.done:
            self._report()
        else:
            self.driver.cancel("its results were dropped")

    def _failed(self, error: BaseException) -> None:
        self._error = error
        if self.abandoned:
            self._report()

    def _report(self) -> None:
        error = self.take_error()
        if error is not None:
            report(self.driver, error)

    def state(self) -> str:
        """For people."""
        if self.driver.done or self.closed:
            return "ended" if self.driver.done else "closed"
        return f"{len(self._group)} running, {len(self.results)} to be taken"


@calls_user_code
def _drive(work: _Work[Any]) -> None:
    work.drive()
