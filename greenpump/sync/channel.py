"""Channel: messages from task to task, across hubs and threads, by Go's rules.

Invariants
----------
1. Everything below changes only inside the latch, but for what 6 says. Nobody parks, wakes or calls
   anything of the user's inside it. (``latch.py`` says what a latch is.)
2. Receivers wait only while the buffer is empty, no sender waits and the channel is open; senders
   only while the buffer is full and it is open. (A select that both sends and receives stands on
   both sides, and never meets itself: see ``select.py``.)
3. A waiter is a Task, or a select's ``Party``. Whoever takes it out of its queue inside the latch
   has claimed the Task; a Party decides itself, since another channel may have claimed it first.
   One that declines is dropped and the next in line is asked.
4. Who claims a waiter completes its operation at once: the message goes from sender to receiver
   (through ``_handed``), or from a waiting sender to the end of the buffer. The woken task does not
   try again, so nobody overtakes it, and the buffer stays in the order of sending.
5. ``abandon`` (a deadline, a cancel) takes the waiter out of its queue inside the same latch; when
   it is there no longer, it was claimed, and the operation counts. So a message is never lost, and
   never both delivered and reported as cancelled.
6. With the GIL ``recv`` takes a message out of the buffer without the latch, while no sender waits:
   a deque's ``popleft`` is atomic. So inside the latch a buffer that held a message may be empty a
   line later, and never the reverse. A sender stands in line first and looks for room afterwards,
   ``recv`` makes room first and looks at the line afterwards: one of the two sees the other, and
   lets the senders in (``_let_in``). Without the GIL only fences would keep that order.

Without the GIL a channel gets its parts at its first use: each reference to an object of another
thread's is an atomic step there, a channel is most often made by one thread and used by others, and
those steps were a third of a message's time. So whoever uses it first owns the parts, and ``send``
and ``recv`` read them all at once, as locals.

What is done most often stands written out in ``send`` and ``recv`` (``this_hub`` and ``prepare``,
``_put`` and ``_get`` for a task that waits, ``hub.wait`` without a scope): a third of the time of a
message was calls. When a park unwinds no function of Python's is called either: near the recursion
limit it would be refused just as the park was.

A signal handler or finaliser may ``close``, ``try_send`` and ``try_recv``, unless it has struck in
an operation on that very channel: then it gets a HubError. For all else let it ``spawn`` a task, or
call ``Event.set``.

Without the GIL C code holds an object's lock while it calls back: ``list(channel)`` may park from
greenlet 3.5.3 on, and another task that touches the same list meanwhile waits for ever. A ``for``
loop holds nothing.

Rejected: waking a waiter to try again (it may lose again, and a stranger overtakes the line); a
deque for the waiters (a cancelled one is found in linear time; a hundred thousand timeouts take
minutes); sending without the latch, too (a token for each free place of the buffer would do, but a
``close`` between the token and the message loses that message).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from enum import Enum
from operator import index
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeAlias, TypeVar, overload

from greenlet import getcurrent

from ..errors import ChannelClosed
from ..hub.local import FREE_THREADED, this_hub
from ..hub.pollable import QUOTA
from ..hub.task import NOBODY, Task
from ..hub.timers import FAR
from ..hub.wait import wake
from .latch import Latch, enters_latch, held_up, latched, new_latch, of_this_thread
from .waiters import wake_all

T = TypeVar("T")
D = TypeVar("D")


class Mark(Enum):
    """What stands in a message's place where there is none."""

    NOTHING = "it would have to wait"
    ENDED = "there never will be one"


NOTHING: Final = Mark.NOTHING
ENDED: Final = Mark.ENDED


class Party(Protocol):
    """A select's waiter in one channel."""

    def take(self, line: object, value: Any) -> Task[Any] | None:
        """Claim the select, with the message for it; whom to wake, None if it is taken.

        ``line`` is the queue it stood in: ``_receivers`` or ``_senders`` of the channel.
        """


UNUSED: Final[Any] = ()
"""In place of a collection, until the channel is first used."""
Receivers: TypeAlias = OrderedDict[Task[Any] | Party, None]
Senders: TypeAlias = OrderedDict[Task[Any] | Party, Any]
"""With their messages."""
Parts: TypeAlias = tuple[Callable[[], object], Callable[[], object], Any, Receivers, Senders]
"""What enters its latch and leaves it, its buffer (a deque, or what a queue has), who waits."""


class Channel(Generic[T]):
    """A queue of at most ``capacity`` messages; without capacity sender and receiver meet.

    ``send`` parks while it is full, ``recv`` and ``for message in channel`` while it is empty, and
    each side is served in the order of coming. Usable from tasks of any hub and from any thread; a
    time limit is a scope around the call (``timeout``, ``move_on_after``), and ``select`` waits for
    several channels at once. A channel is always true; ``len`` is how many messages it holds.

    Raises ValueError for a negative capacity. Source: The Go Programming Language Specification.
    """

    __slots__ = (
        "__weakref__",
        "_buffer",
        "_capacity",
        "_closed",
        "_handed",
        "_latch",
        "_parts",
        "_quick",
        "_quota",
        "_receivers",
        "_senders",
    )

    def __init__(self, capacity: int = 0) -> None:
        capacity = index(capacity)
        if capacity < 0:
            raise ValueError(f"a channel's capacity must not be negative: {capacity}")
        self._capacity = capacity
        self._latch = new_latch()
        self._parts: Parts | None = None
        self._closed = False
        # These are made with the parts.
        self._buffer: deque[T] = UNUSED
        self._receivers: Receivers = UNUSED
        self._senders: Senders = UNUSED
        self._handed: dict[Task[Any], Any] = UNUSED  # to receivers that have not yet resumed
        self._quota = QUOTA
        self._quick = not FREE_THREADED  # invariant 6
        if not FREE_THREADED:
            self._furnish()

    @enters_latch
    def send(self, value: T) -> None:
        """Send ``value``; parks until a receiver takes it, or the buffer has room for it.

        Raises ChannelClosed when the channel is closed, or gets closed while this waits; Cancelled,
        in which case nothing was sent.
        """
        if self._quota < 0:
            self._charge()
        enter, leave, buffer, receivers, senders = self._parts or self.first_used()
        while True:
            receiver: Any = None
            try:
                enter()
            except BaseException as error:
                held_up(self._latch, error)
            try:
                if receivers:
                    receiver, _ = receivers.popitem(False)
                    if type(receiver) is Task:
                        self._handed[receiver] = value
                    elif (receiver := receiver.take(receivers, value)) is None:
                        continue
                elif self._closed:
                    raise ChannelClosed(f"nothing can be sent on {self!r}")
                elif len(buffer) < self._capacity and not senders:
                    self._quota -= 1
                    buffer.append(value)
                    return
                else:
                    try:
                        me = getcurrent()
                        task = me.task  # type: ignore[attr-defined]
                        hub = task.hub
                        if hub.current is not task or task.glet is not me or task.scope is not None:
                            hub.prepare()
                    except AttributeError:
                        hub = this_hub()
                        task = hub.prepare()
                    task.wait = self
                    senders[task] = value
            finally:
                leave()
            if receiver is not None:
                wake(receiver)
                return
            try:
                if self._capacity and len(buffer) < self._capacity:
                    self._let_in()
                if task.scope is not None:
                    sent = hub.wait(task, self)
                else:
                    trouble = hub.park(task)
                    sent = trouble is None or hub.settle(task, FAR)
            except BaseException:
                try:
                    enter()
                except BaseException as error:
                    held_up(self._latch, error)
                try:
                    senders.pop(task, None)
                finally:
                    leave()
                self._handed.pop(task, None)
                task.wait = task.trouble = None
                raise
            if self._closed and self._handed.pop(task, None) is ENDED:
                name = task.name
                del task  # which may end with the error, whose traceback holds this frame
                raise ChannelClosed(f"{self!r} was closed while {name} waited to send")
            if sent:
                return

    @enters_latch
    def recv(self) -> T:
        """The next message; parks until there is one.

        Raises ChannelClosed when the channel is closed and no message is left; Cancelled, in which
        case no message was taken.
        """
        if self._quota < 0:
            self._charge()
        enter, leave, buffer, receivers, senders = self._parts or self.first_used()
        value: Any
        if buffer and self._quick and not senders:
            try:
                value = buffer.popleft()
            except IndexError:
                pass  # another thread was quicker
            else:
                self._quota -= 1
                if senders:
                    self._let_in()
                return value  # type: ignore[no-any-return]
        while True:
            task: Any = None
            sender: Any = None
            try:
                enter()
            except BaseException as error:
                held_up(self._latch, error)
            try:
                if senders:
                    if self._capacity:
                        value, sender = self._get()
                    else:
                        # Without a buffer it is the first sender's; most often that is a task.
                        sender, value = senders.popitem(False)
                        if type(sender) is not Task:
                            sender = sender.take(senders, None)
                            if sender is None:
                                continue
                elif buffer or self._closed:
                    self._quota -= 1
                    if self._quick or not buffer:
                        value, _ = self._get()
                    else:
                        return buffer.popleft()  # type: ignore[no-any-return]
                else:
                    try:
                        me = getcurrent()
                        task = me.task  # type: ignore[attr-defined]
                        hub = task.hub
                        if hub.current is not task or task.glet is not me or task.scope is not None:
                            hub.prepare()
                    except AttributeError:
                        hub = this_hub()
                        task = hub.prepare()
                    task.wait = self
                    receivers[task] = None
            finally:
                leave()
            if task is not None:
                try:
                    if task.scope is not None:
                        hub.wait(task, self)
                    else:
                        trouble = hub.park(task)
                        if trouble is not None:
                            hub.settle(task, FAR)
                except BaseException:
                    try:
                        enter()
                    except BaseException as error:
                        held_up(self._latch, error)
                    try:
                        receivers.pop(task, None)
                    finally:
                        leave()
                    self._handed.pop(task, None)
                    task.wait = task.trouble = None
                    raise
                value = self._handed.pop(task, NOTHING)
            elif sender is not None:
                wake(sender)
                return value  # type: ignore[no-any-return]
            if value is ENDED:
                del task  # as in ``send``
                raise ChannelClosed(f"{self!r} has no more messages")
            if value is not NOTHING:
                return value  # type: ignore[no-any-return]

    def try_send(self, value: T) -> bool:
        """Send ``value`` if that needs no waiting; whether it did. Doesn't park.

        Raises ChannelClosed when the channel is closed.
        """
        if self._parts is None:
            self.first_used()
        receiver = latched(self._latch, self._put, value)
        if receiver is NOTHING:
            return False
        if receiver is not None:
            wake(receiver)
        return True

    @overload
    def try_recv(self) -> T | None: ...
    @overload
    def try_recv(self, default: D) -> T | D: ...
    def try_recv(self, default: Any = None) -> Any:
        """The next message, or ``default`` if that would need waiting. Doesn't park.

        Raises ChannelClosed when the channel is closed and no message is left.
        """
        if self._parts is None:
            self.first_used()
        value, sender = latched(self._latch, self._get)
        if sender is not None:
            wake(sender)
        if value is ENDED:
            raise ChannelClosed(f"{self!r} has no more messages")
        return default if value is NOTHING else value

    def close(self) -> None:
        """No more sending: receivers get what is in the buffer, then ChannelClosed. Doesn't park.

        Tasks that wait to send get ChannelClosed; their messages were not sent. Raises
        ChannelClosed when it is closed already.
        """
        if self._parts is None:
            self.first_used()
        wake_all(latched(self._latch, self._end))

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called; messages may be left nevertheless."""
        return self._closed

    @property
    def capacity(self) -> int:
        """How many messages it holds before ``send`` parks."""
        return self._capacity

    def __len__(self) -> int:
        """How many messages are in the buffer."""
        return len(self._buffer)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        """As ``recv``, but the end of the messages ends the iteration."""
        try:
            return self.recv()
        except ChannelClosed:
            raise StopIteration from None

    def __repr__(self) -> str:
        state = f"{len(self._buffer)} of {self._capacity} messages"
        for waiters, verb in ((self._senders, "send"), (self._receivers, "receive")):
            if waiters:
                state += f", {len(waiters)} waiting to {verb}"
        return f"<Channel at {id(self):#x}: {state}{', closed' if self._closed else ''}>"

    def first_used(self) -> Parts:
        """Its parts, made if need be; for ``send`` and ``recv``, and who makes a case."""
        return latched(self._latch, self._furnish)

    def renew_latch(self) -> None:
        """In the child of a fork: a thread that is not there may be inside."""
        if self._parts is None:
            self._latch = new_latch()
        else:
            self._fit(new_latch(), self._buffer)

    # -- inside the latch; select's way in ---------------------------------------------------------

    def _furnish(self) -> Parts:
        parts = self._parts
        if parts is None:
            self._receivers = OrderedDict()
            self._senders = OrderedDict()
            self._handed = {}
            parts = self._fit(self._latch, deque())
        return parts

    def _fit(self, latch: Latch, buffer: Any) -> Parts:
        """Work with this latch and this buffer from now on."""
        self._latch, self._buffer = latch, buffer
        self._parts = parts = *of_this_thread(latch), buffer, self._receivers, self._senders
        return parts

    def _put(self, value: T) -> Task[Any] | Literal[Mark.NOTHING] | None:
        """Pass ``value`` on; NOTHING if that needs waiting, else the task to wake or None."""
        if self._closed:
            raise ChannelClosed(f"nothing can be sent on {self!r}")
        receivers = self._receivers
        while receivers:
            waiter, _ = receivers.popitem(False)
            if type(waiter) is Task:
                self._handed[waiter] = value
                return waiter
            task = waiter.take(receivers, value)  # type: ignore[union-attr]
            if task is not None:
                return task
        if len(self._buffer) < self._capacity and not self._senders:
            self._buffer.append(value)
            return None
        return NOTHING

    def _get(self) -> tuple[Any, Task[Any] | None]:
        """The next message and the task to wake; in its place NOTHING, or ENDED."""
        buffer, senders = self._buffer, self._senders
        sender: Any = None
        message: Any = ENDED if self._closed else NOTHING
        while senders:
            waiter, value = senders.popitem(False)
            is_task = type(waiter) is Task
            sender = waiter if is_task else waiter.take(senders, None)  # type: ignore[union-attr]
            if sender is not None:
                message = value
                break
        try:
            first = buffer.popleft()  # before the append: ``len`` is never more than the capacity
        except IndexError:
            return message, sender
        if sender is not None:
            buffer.append(message)
        return first, sender

    def _end(self) -> list[Task[Any]]:
        """Close it: whom to wake."""
        if self._closed:
            raise ChannelClosed(f"{self!r} can't be closed twice")
        self._closed = True
        woken: list[Task[Any]] = []
        for waiters in (self._receivers, self._senders):
            for waiter in waiters:
                if type(waiter) is Task:
                    self._handed[waiter] = ENDED
                    woken.append(waiter)
                elif (task := waiter.take(waiters, ENDED)) is not None:  # type: ignore[union-attr]
                    woken.append(task)
            waiters.clear()
        return woken

    def _admit(self) -> list[Task[Any]]:
        """Move the messages of waiting senders into the room there is: whom to wake."""
        admitted: list[Task[Any]] = []
        while self._senders and len(self._buffer) < self._capacity:
            waiter, value = self._senders.popitem(False)
            sender: Any = waiter
            if type(waiter) is not Task:
                sender = waiter.take(self._senders, None)  # type: ignore[union-attr]
            if sender is not None:
                self._buffer.append(value)
                admitted.append(sender)
        return admitted

    # -- waiting ---------------------------------------------------------------------------------

    def abandon(self, task: Task[Any]) -> bool:
        return latched(self._latch, self._leave, task)

    def _leave(self, task: Task[Any]) -> bool:
        for waiters in (self._receivers, self._senders):
            if task in waiters:
                del waiters[task]
                return True
        return False

    def reason(self, task: Task[Any]) -> str:
        return f"{'send on' if task in self._senders else 'receive from'} {self!r}"

    def _let_in(self) -> None:
        """Senders that wait although a ``recv`` has made room without the latch (invariant 6)."""
        wake_all(latched(self._latch, self._admit))

    def _charge(self) -> None:
        """As many operations as may go without a wait have: let the others run (law 7).

        Before the operation, since this may raise Cancelled.
        """
        self._quota = QUOTA
        hub = this_hub()
        if hub.current is not NOBODY:
            hub.quota -= QUOTA
            hub.yield_now()
