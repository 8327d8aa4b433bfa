"""Cases: what a select can wait for, and how it stands in line for each.

Invariants
----------
1. A case holds nothing of a select that waits: that is the selection's, or its seat's, made by
   ``joined`` and given back to ``left``. So a case can be used again, by several tasks at once.
2. Who ends a select's wait claims the selection before anything is handed to it, and wakes it once
   at most.
3. In the line of a channel stands the selection itself, once, however many of its cases are about
   that line: the first of them is the one that is done. (A seat for each case was a third of the
   time of a select.) Elsewhere stand seats.
4. What has no lock to look and join under is looked at again after joining: either side sees the
   other (events, tasks), or the fd is asked by its own hub, which also delivers its edges.

A select doesn't consume an fd's readiness: the kernel still has it for the call that follows.
"""

from __future__ import annotations

import select as _kernel
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeVar

from ..errors import ChannelClosed
from ..hub.local import this_hub
from ..hub.pollable import _LEVEL, READ, WRITE, Pollable, RemoteSeat
from ..hub.task import Task
from ..hub.wait import wake
from .channel import ENDED, NOTHING, Channel
from .event import Event
from .latch import Latch, enters_latch, held_up

T = TypeVar("T")


class Closed_:
    """The type of CLOSED."""

    def __repr__(self) -> str:
        return "greenpump.CLOSED"


CLOSED: Final = Closed_()
"""What a select receives from a channel that is closed and drained."""


class HasPollable(Protocol):
    """A Socket, or what else has an fd that greenpump waits for."""

    _pollable: Pollable


class Case:
    """One thing that a select waits for: an operation on a channel or socket.

    Made by ``receiving``, ``sending``, ``readable`` and ``writable``. It may be used again, and by
    several tasks at once.
    """

    __slots__ = ()
    channel: Channel[Any] | None = None
    takes = False
    """Of a channel's case: whether it receives."""
    line: OrderedDict[Any, Any] | None = None
    """Of a channel's case: the queue of those that wait for the same."""
    message: Any = None
    """Of a channel's case: what it sends."""

    def proceed(self) -> tuple[Any, Task[Any] | None]:
        """Do it: the value or NOTHING, and whom to wake. Holds the channel's lock, if any."""
        raise NotImplementedError

    # Of those that are not a channel's:

    def ready(self) -> bool:
        """Whether it can proceed."""
        return False

    def joined(self, selection: Selection, number: int) -> Any:
        """Have the selection wait for it: what ``left`` needs to know."""

    def left(self, seat: Any) -> None:
        """The selection waits no longer."""

    def outcome(self, value: Any) -> Any:
        """What the select returns for what it was handed while it waited."""
        return value


def receiving(channel: Channel[Any] | Case | None) -> Case:
    """For ``select``: receive from ``channel``, or a Timer or Ticker. The value is the message.

    It is ``CLOSED`` when the channel is closed and drained, at once and every time. From None
    nothing is ever received. Doesn't park. Raises TypeError for what is neither. Source: the
    receive clauses of Go's select.
    """
    if isinstance(channel, Case):
        return channel  # a Timer or Ticker is its own case
    try:
        return _NEVER if channel is None else _Receiving(channel)
    except AttributeError:
        raise _no_channel("receive from", channel) from None


def sending(channel: Channel[T] | None, value: T) -> Case:
    """For ``select``: send ``value`` on ``channel``; on None it is never sent.

    The select raises ChannelClosed if the channel is closed, or gets closed while it waits. Doesn't
    park. Raises TypeError for what is no channel. Source: the send clauses of Go's select.
    """
    try:
        return _NEVER if channel is None else _Sending(channel, value)
    except AttributeError:
        raise _no_channel("send on", channel) from None


def _no_channel(what: str, thing: object) -> TypeError:
    return TypeError(f"select can {what} a Channel, not {thing!r}; an Event or Task it takes as is")


def readable(sock: HasPollable) -> Case:
    """For ``select``: a read from ``sock`` is worth a try (data, EOF, an error, closed).

    Of several tasks that wait for it one is told; it should read. A read afterwards may still park,
    if somebody else was quicker. Doesn't park. Raises TypeError for what is no Socket of
    greenpump's. Source: poll(2).
    """
    return _fd_case(sock, READ)


def writable(sock: HasPollable) -> Case:
    """For ``select``: a write to ``sock`` is worth a try. As ``readable`` in all else."""
    return _fd_case(sock, WRITE)


def _fd_case(sock: HasPollable, direction: int) -> Case:
    if not hasattr(sock, "_pollable"):
        raise TypeError(f"select can wait for a greenpump.Socket, not {sock!r}; see from_stdlib")
    return _Fd(sock, direction)


def as_case(case: Event | Task[Any] | None) -> Case:
    if case is None:
        return _NEVER
    if isinstance(case, Event):
        return _Set(case)
    if isinstance(case, Task):
        return _Ended(case)
    raise TypeError(
        f"select can't wait for {case!r}: give it receiving(channel), sending(channel, value), "
        "readable(socket), writable(socket), an Event or a Task"
    )


class Selection:
    """A select that waits; made by ``joined``."""

    __slots__ = (
        "_latches",
        "_line",
        "_seats",
        "_token",
        "number",
        "overtaken",
        "task",
        "value",
        "ways",
    )

    ways: Sequence[Case]
    task: Task[Any]
    number: int
    """Of the case that was done, or -1."""
    value: Any
    overtaken: bool
    """Whether a ``recv`` has made room for what it waits to send (channel.py, invariant 6)."""
    _latches: Sequence[Latch]
    _line: object
    """The queue of the channel that claimed it."""
    _seats: list[tuple[Case, Any]]
    _token: list[None]
    """What a claim takes: ``pop`` is atomic."""

    def join_others(self) -> None:
        """Join the places that are no channels."""
        for number, case in enumerate(self.ways):
            if case.channel is None:
                self._seats.append((case, case.joined(self, number)))

    def look_again(self) -> None:
        """Let in who waits to send, oneself too, where a ``recv`` made room without the latch."""
        for case in self.ways:
            channel = case.channel
            if channel is not None:
                channel._let_in()

    @enters_latch
    def leave(self) -> None:
        """Leave every place, and note which case was done, if one was."""
        latches = self._latches
        entered = 0
        try:
            for latch in latches:
                enter, _ = latch
                try:
                    enter()
                except BaseException as error:
                    held_up(latch, error)
                entered += 1
            for number, case in enumerate(self.ways):
                line = case.line
                if line is not None:
                    if line is self._line and self.number < 0:
                        self.number = number
                    line.pop(self, None)
        finally:
            for _, leave in latches[:entered]:
                leave()
        for case, seat in self._seats:
            case.left(seat)

    def take(self, line: object, value: Any) -> Task[Any] | None:
        """``channel.Party``"""
        try:
            self._token.pop()
        except IndexError:
            return None
        self._line = line
        self.value = value
        return self.task

    def claim(self, number: int, value: Any) -> bool:
        """Commit to the select, from any thread; False if somebody else has, or it gave up."""
        try:
            self._token.pop()
        except IndexError:
            return False
        self.number = number
        self.value = value
        return True

    def abandon(self, task: Task[Any]) -> bool:
        try:
            self._token.pop()
        except IndexError:
            return False
        return True

    def reason(self, task: Task[Any]) -> str:
        return f"select of {', '.join(map(repr, self.ways)) or 'nothing'}"


def joined(ways: Sequence[Case], latches: Sequence[Latch]) -> Selection:
    """A selection in the queues of the channels, inside whose latches the caller is.

    A plain function, for the C frame that a class with ``__init__`` nests.
    """
    selection: Selection = _new(Selection)
    selection.task = this_hub().prepare()
    selection.ways = ways
    selection.number = -1
    selection.value = selection._line = None
    selection.overtaken = False
    selection._latches = latches
    selection._token = [None]
    selection._seats = []
    for case in reversed(ways):  # so that of two cases for one line the first one's message counts
        line = case.line
        if line is not None:
            line[selection] = case.message
            if not case.takes:
                channel: Any = case.channel
                if len(channel._buffer) < channel._capacity:
                    selection.overtaken = True
    return selection


_new: Any = object.__new__


class _Seat:
    """A selection's waiter for one case."""

    __slots__ = ("number", "selection")

    def __init__(self, selection: Selection, number: int) -> None:
        self.selection = selection
        self.number = number

    def offer(self, value: Any) -> bool:
        """Claim the select and wake it."""
        if not self.selection.claim(self.number, value):
            return False
        wake(self.selection.task)
        return True


class _Never(Case):
    """What never proceeds."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "None"


_NEVER: Final = _Never()


class _Receiving(Case):
    __slots__ = ("channel", "line", "takes")

    def __init__(self, channel: Channel[Any]) -> None:
        self.channel: Channel[Any] = channel
        self.takes = True
        _, _, _, self.line, _ = channel._parts or channel.first_used()

    def proceed(self) -> tuple[Any, Task[Any] | None]:
        value, sender = self.channel._get()
        return self.outcome(value), sender

    def outcome(self, value: Any) -> Any:
        return CLOSED if value is ENDED else value

    def __repr__(self) -> str:
        return f"receiving({self.channel!r})"


class _Sending(Case):
    __slots__ = ("channel", "line", "message", "takes")

    def __init__(self, channel: Channel[T], message: T) -> None:
        self.channel: Channel[Any] = channel
        self.takes = False
        _, _, _, _, self.line = channel._parts or channel.first_used()
        self.message = message

    def proceed(self) -> tuple[Any, Task[Any] | None]:
        receiver = self.channel._put(self.message)
        return (NOTHING, None) if receiver is NOTHING else (None, receiver)

    def outcome(self, value: Any) -> Any:
        if value is ENDED:
            raise ChannelClosed(f"{self.channel!r} was closed while a select waited to send")

    def __repr__(self) -> str:
        return f"sending({self.channel!r})"


class _Set(Case):
    __slots__ = ("_event",)

    def __init__(self, event: Event) -> None:
        self._event = event

    def ready(self) -> bool:
        return self._event.is_set()

    def proceed(self) -> tuple[Any, Task[Any] | None]:
        return self._event, None

    def joined(self, selection: Selection, number: int) -> _Seat:
        seat = _Seat(selection, number)
        waiting = self._event._waiting
        waiting[seat] = True
        if self._event.is_set() and waiting.pop(seat, False):
            seat.offer(None)
        return seat

    def left(self, seat: Any) -> None:
        self._event._waiting.pop(seat, None)

    def outcome(self, value: Any) -> Event:
        return self._event

    def __repr__(self) -> str:
        return repr(self._event)


class _EndSeat(_Seat):
    """``task.Joiner``"""

    __slots__ = ("observer",)

    def __init__(self, selection: Selection, number: int) -> None:
        super().__init__(selection, number)
        self.observer = False

    def ended(self) -> None:
        self.offer(None)


class _Ended(Case):
    __slots__ = ("_target",)

    def __init__(self, target: Task[Any]) -> None:
        self._target = target

    def ready(self) -> bool:
        if self._target is this_hub().current:
            raise RuntimeError(f"task {self._target.name} would wait for itself")
        return self._target.done

    def proceed(self) -> tuple[Any, Task[Any] | None]:
        return self._target, None

    def joined(self, selection: Selection, number: int) -> _EndSeat:
        seat = _EndSeat(selection, number)
        if not self._target.when_done(seat):
            seat.offer(None)
        return seat

    def left(self, seat: Any) -> None:
        self._target._leave(seat)

    def outcome(self, value: Any) -> Task[Any]:
        return self._target

    def __repr__(self) -> str:
        return repr(self._target)


class _FdSeat(RemoteSeat):
    """Like a waiter of another hub's: the claim decides, and the fd is asked when it sits down."""

    __slots__ = ("number", "selection")

    def __init__(
        self, pollable: Pollable, direction: int, selection: Selection, number: int
    ) -> None:
        super().__init__(pollable, selection.task, direction)
        self.claim = selection._token
        self.selection = selection
        self.number = number

    def offer(self) -> bool:
        if not self.selection.claim(self.number, None):
            return False
        wake(self.task)
        return True


class _Fd(Case):
    __slots__ = ("_direction", "_sock")

    def __init__(self, sock: HasPollable, direction: int) -> None:
        self._sock = sock
        self._direction = direction

    def ready(self) -> bool:
        pollable = self._sock._pollable
        if pollable.fd < 0:
            return True  # closed: whoever tries is told
        if self._direction == READ:
            at_hand = getattr(self._sock, "_at_hand", None)
            if at_hand is not None and at_hand():
                return True  # TLS has something in memory, of which the kernel doesn't know
        poller = _kernel.poll()
        poller.register(pollable.fd, _LEVEL[self._direction])
        if poller.poll(0):
            return True
        if pollable.hub.closed:
            pollable.register(this_hub())
        return False

    def proceed(self) -> tuple[Any, Task[Any] | None]:
        return self._sock, None

    def joined(self, selection: Selection, number: int) -> _FdSeat:
        pollable = self._sock._pollable
        seat = _FdSeat(pollable, self._direction, selection, number)
        if pollable.is_mine():
            seat.take()
        else:
            pollable.hub.post(seat.take)
        return seat

    def left(self, seat: _FdSeat) -> None:
        if seat.pollable.is_mine():
            seat.pollable.leave(seat)
        else:
            seat.pollable.hub.post(seat._stand_up)

    def outcome(self, value: Any) -> HasPollable:
        return self._sock

    def __repr__(self) -> str:
        verb = "readable" if self._direction == READ else "writable"
        return f"{verb}(fd {self._sock._pollable.fd})"
