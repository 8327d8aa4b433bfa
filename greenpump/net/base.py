"""What every method of a Socket stands on: its state, its time limits, and how it waits.

Invariants
----------
1. The fd is always O_NONBLOCK; what ``settimeout`` says is this object's own business. ``detach``
   gives a blocking socket's fd back in blocking mode.
2. ``_limits`` is None for a socket that blocks without a time limit, which is all the hot path
   asks. Non-blocking mode is the limit 0: it bypasses flags and parking, straight to the syscall.
3. ``_pollable`` is ``CLOSED`` from the moment the fd is given up. Its flags say "try", so whoever
   comes later gets EBADF from the C code, and whoever waited has kept the old pollable, is woken
   by its ``close`` and meets the same.
4. The edge that woke a waiter is that waiter's: the flag does not say it. So a woken operation
   makes its syscall before anything else, and if that raises it passes readiness on.
5. ``_records``: a short read does not mean that the kernel's buffer is empty. True for datagrams,
   for listeners, and for a unix stream from its first ``recvmsg`` for ancillary data on: a read
   there ends at a message that carried fds, whatever follows it. (Who never asks for fds is not
   made to pay for them: 0.7 µs a ``recv``.)
6. Records come in bursts. So one that was there without waiting is taken for granted to be followed
   by more, until EAGAIN, and one that was waited for is not: there the kernel is asked first. They
   stay on edges: registered level-triggered, a burst would cost a poll for each.

Deadlines that move
-------------------
``set_deadline`` and its kin hold for operations that wait already: they wake those, which find
nothing to read, look at the new deadline and wait on. So nothing but the wait itself knows of them.
"""

from __future__ import annotations

import _socket
import os
import socket as _stdlib
from collections.abc import Callable
from errno import EBADF
from functools import partial
from math import ceil
from typing import Any, Concatenate, ParamSpec, TypeVar

from ..hub.local import hubs, this_hub
from ..hub.pollable import PERHAPS, READ, WRITE, YES, Pollable
from ..hub.timers import CENTURY, FAR
from ..hub.wait import SLEEP, wake

P = ParamSpec("P")
T = TypeVar("T")

_C = _socket.socket
_fileno = _C.fileno
_gettimeout = _C.gettimeout
_settimeout = _C.settimeout
_family: Callable[[_socket.socket], int] = _C.family.__get__
_type: Callable[[_socket.socket], int] = _C.type.__get__

BULK = 4096
"""A full read of at least so much is most likely not the last one: try without asking."""
UNAWAITED = 3
"""So many reads of a stream may let others run before it is registered for its edges."""
FIRST_PAUSE = 1_000_000
LONGEST_PAUSE = 50_000_000
"""ns between two attempts where the kernel won't say when one is worth it."""

UNUSUAL = object()
"""What no size is identical to."""

CLOSED = Pollable(-1)
"""The pollable of every closed socket."""


class Limits:
    """The time limits of one socket.

    ``timeout`` is in seconds and for each operation (None: none, 0: non-blocking mode); ``read``
    and ``write`` are deadlines in nanoseconds of the hub's clock.
    """

    __slots__ = ("read", "timeout", "write")

    def __init__(self, timeout: float | None = None) -> None:
        self.timeout = timeout
        self.read = self.write = FAR

    def of(self, direction: int) -> int:
        """The absolute deadline of one direction."""
        return self.read if direction == READ else self.write


class _Hot(_stdlib.socket):
    """What each recv and send touches, side by side in memory, as in a task's first cache line."""

    __slots__ = ("_eager", "_pollable", "_usual")


class BaseSocket(_Hot):
    """State, time limits, lifetime and the two ways to wait. Made only as a ``Socket``."""

    __slots__ = (
        "_bulky",
        "_limits",
        "_plain",
        "_records",
        "detached",
    )

    def __init__(
        self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None
    ) -> None:
        super().__init__(family, type, proto, fileno)
        timeout = _gettimeout(self)  # socket.setdefaulttimeout, or SOCK_NONBLOCK in type
        self._limits = None if timeout is None else Limits(timeout)
        _settimeout(self, 0.0)
        self._pollable = Pollable(_fileno(self))
        # True once ``detach_until_readable`` has handed the connection over: who accepted it no
        # longer closes it. Never reset.
        self.detached = False
        self._records = self._bulky = _type(self) != _stdlib.SOCK_STREAM
        self._classify()

    def _classify(self) -> None:
        """Whether the hot paths may be taken.

        Plain is a stream without time limits; eager, what may attempt to send before it looks at
        its limits: no deadline that may have passed, nor the non-blocking mode.
        """
        limits = self._limits
        self._plain = limits is None and not self._records
        self._usual: object = UNUSUAL
        self._eager = limits is None or (limits.timeout != 0 and limits.write == FAR)

    # -- time limits -----------------------------------------------------------------------------

    def settimeout(self, value: float | None, /) -> None:
        """Limit each operation that starts from now on to ``value`` seconds.

        None is no limit, 0 is non-blocking mode (BlockingIOError in place of waiting). What passes
        it raises TimeoutError; for ``sendall``, ``recv_exactly`` and other calls of several steps
        the limit is the whole call's. Doesn't park. Source: socket.socket.settimeout.
        """
        self._alive()
        if value is not None:
            value = _seconds(value)
        limits = self._limits
        if limits is None:
            if value is not None:
                self._limits = Limits(value)
        elif value is None and limits.read == limits.write == FAR:
            self._limits = None
        else:
            limits.timeout = value
        self._classify()

    def gettimeout(self) -> float | None:
        """The limit of each operation in seconds; None is no limit, 0.0 non-blocking mode."""
        return None if self._limits is None else self._limits.timeout

    @property
    def timeout(self) -> float | None:
        """What ``gettimeout`` returns."""
        return self.gettimeout()

    def setblocking(self, flag: object, /) -> None:
        """``settimeout(None)`` if true, ``settimeout(0.0)`` if not."""
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        """False in non-blocking mode."""
        return self.gettimeout() != 0

    def set_deadline(self, when: float | None) -> None:
        """Have every operation fail with TimeoutError from ``when`` on; None clears.

        ``when`` is a point of time, in seconds of ``time.monotonic()``: unlike a timeout it does
        not start anew with each operation. It holds also for operations of other tasks that wait
        already, so a deadline in the past ends them, and it stays until it is set anew: once it has
        passed, even an operation that would not have to wait fails. Doesn't park. Callable from any
        task and thread. Raises ValueError for NaN, TypeError for what is no number, OSError (EBADF)
        on a closed socket. Source: SetDeadline of Go's net.Conn.
        """
        self._set_deadlines(when, READ, WRITE)

    def set_read_deadline(self, when: float | None) -> None:
        """``set_deadline`` for receiving and accepting alone. Source: Go's SetReadDeadline."""
        self._set_deadlines(when, READ)

    def set_write_deadline(self, when: float | None) -> None:
        """``set_deadline`` for sending and connecting alone. Source: Go's SetWriteDeadline."""
        self._set_deadlines(when, WRITE)

    def _set_deadlines(self, when: float | None, *directions: int) -> None:
        self._alive()
        deadline = _moment(when)
        limits = self._limits or Limits()
        for direction in directions:
            if direction == READ:
                limits.read = deadline
            else:
                limits.write = deadline
        idle = limits.timeout is None and limits.read == limits.write == FAR
        self._limits = None if idle else limits
        self._classify()
        pollable = self._pollable
        if pollable.generation < 0:
            return
        for direction in directions:
            step = partial(_wake_all, pollable, direction)
            mine = pollable.is_mine()
            if mine:
                step()
            if not mine or len(hubs) > 1:
                # A waiter of another hub may be on its way here: it stands before us in the inbox.
                pollable.hub.post(step)

    # -- waiting ---------------------------------------------------------------------------------

    def _read(
        self,
        call: Callable[Concatenate[BaseSocket, P], T],
        until: int | None,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """``call(self, ...)``, which receives, as often as it takes; parks in between.

        ``until`` is the deadline of the whole operation that this call is one step of, None for an
        operation of its own.
        """
        limits = self._limits
        if limits is not None:
            if limits.timeout == 0:
                return call(self, *args, **kwargs)
            if until is None:
                until = self._until(READ, call.__name__)
        if until is None:
            until = FAR
        pollable = self._pollable
        readable = pollable.readable
        if readable and self._may_try(pollable, readable):
            try:
                result = call(self, *args, **kwargs)
            except BlockingIOError:
                pollable.drained()
            else:
                self._left(pollable, waited=False)
                return result
        return self._read_later(call, until, *args, **kwargs)

    def _read_later(
        self,
        call: Callable[Concatenate[BaseSocket, P], T],
        until: int,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """``_read`` of what isn't there yet."""
        pollable = self._pollable
        while True:
            self._wait(pollable, READ, until, call.__name__)
            try:
                result = call(self, *args, **kwargs)
            except BlockingIOError:
                continue
            except BaseException:
                pollable.more_to_read()
                raise
            self._left(pollable)
            return result

    def _write(
        self,
        call: Callable[Concatenate[BaseSocket, P], T],
        until: int | None,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """``call(self, ...)``, which sends; ``until`` is as for ``_read``."""
        limits = self._limits
        if limits is not None:
            if limits.timeout == 0:
                return call(self, *args, **kwargs)
            if until is None:
                until = self._until(WRITE, call.__name__)
        if until is None:
            until = FAR
        pollable = self._pollable
        if pollable.writable:
            self._charge(pollable)
            try:
                return call(self, *args, **kwargs)
            except BlockingIOError:
                pass
        while True:
            pollable.filled()
            self._wait(pollable, WRITE, until, call.__name__)
            try:
                result = call(self, *args, **kwargs)
            except BlockingIOError:
                continue
            except BaseException:
                pollable.more_to_write()
                raise
            pollable.more_to_write()
            return result

    def _ask(self, pollable: Pollable) -> bool:
        """Whether another read is worth a try, where the flag says perhaps."""
        if pollable.generation >= 0:
            return pollable.probe()
        # Nobody has waited for it yet. To register, and to take that back, costs a short connection
        # more than all else of ours. While others run, what is to come may come unawaited. But to
        # yield each time costs a long one more than to park.
        pollable.vain += 1
        if pollable.vain > UNAWAITED or not this_hub().ready:
            pollable.vain = 0
            return False
        pollable.charge()  # lets them run
        return True

    def _left(
        self, pollable: Pollable, got: int = 0, wanted: int = 0, *, waited: bool = True
    ) -> None:
        """Say what a read of ``got`` bytes has left, ``wanted`` being what it asked for."""
        if got < wanted and not self._records and not pollable.hup:
            if pollable.generation < 0:
                pollable.readable = PERHAPS  # no edge would take a NO back
            else:
                pollable.drained()
        elif (pollable.reader is None and pollable.crowd is None) or pollable.probe():
            # Who is woken in vain loses its place in the line: so with others waiting, ask first.
            pollable.more_to_read()
            if got >= BULK or (self._records and not waited):
                pollable.readable = YES
        if self._records:
            pollable.vain = 0  # what was asked in vain before it doesn't count: see invariant 6

    def _may_try(self, pollable: Pollable, readable: object) -> bool:
        """Whether a read is worth an attempt without waiting, which is then charged for."""
        if readable == PERHAPS and not self._ask(pollable):
            return False
        if type(readable) is int:
            self._charge(pollable)  # else it came by an edge, which the poll has charged for
        return True

    def _charge(self, pollable: Pollable) -> None:
        """Count an attempt that didn't have to wait, before it: yielding may raise Cancelled."""
        hub = pollable.hub
        hub.quota = quota = hub.quota - 1
        if quota < 0:
            pollable.charge()

    def _until(self, direction: int, name: str) -> int:
        """The deadline of an operation that starts now, from its timeout; FAR if it has none.

        Raises TimeoutError when the absolute deadline has passed: as in Go, it fails every
        operation, also one that would not have to wait.
        """
        limits = self._limits
        if limits is None:
            return FAR
        if limits.of(direction) != FAR and this_hub().timers.clock() >= limits.of(direction):
            raise self._timed_out(name)
        return FAR if limits.timeout is None else this_hub().timers.after(limits.timeout)

    def _wait(self, pollable: Pollable, direction: int, until: int, name: str) -> None:
        """Park until another try is worth it; TimeoutError at ``until`` or the deadline."""
        limits = self._limits
        deadline = until if limits is None else min(until, limits.of(direction))
        if not pollable.wait(direction, deadline):
            raise self._timed_out(name)

    def _pause(self, direction: int, until: int, pause: int, name: str) -> None:
        """Park for ``pause`` ns, where the kernel won't tell when another try is worth it."""
        limits = self._limits
        deadline = until if limits is None else min(until, limits.of(direction))
        hub = this_hub()
        now = hub.timers.clock()
        if now >= deadline:
            raise self._timed_out(name)
        hub.wait(hub.prepare(), SLEEP, min(deadline, now + pause))

    def _timed_out(self, name: str) -> TimeoutError:
        try:
            peer = self.getpeername()
        except OSError:
            peer = None
        whom = f" with {peer!r}" if peer else ""
        return TimeoutError(f"timed out: {name.lstrip('_')} on fd {self.fileno()}{whom}")

    # -- lifetime ----------------------------------------------------------------------------------

    def detach(self) -> int:
        """Give the fd away: return its number and be closed, without closing it.

        Tasks that wait on it get OSError (EBADF). Without a time limit the fd is handed out in
        blocking mode, as socket.socket's; mind that a ``dup`` shares the mode. Doesn't park.
        """
        blocking = self.gettimeout() is None and self.fileno() >= 0
        self._forget()
        fd = super().detach()
        if blocking:
            os.set_blocking(fd, True)
        return fd

    def _real_close(self, *args: Any) -> None:
        try:
            self._forget()
        finally:
            super()._real_close(*args)  # type: ignore[misc]

    def _forget(self) -> None:
        """The fd is about to go: end its registration and wake who waits."""
        pollable, self._pollable = self._pollable, CLOSED
        if pollable is not CLOSED:
            pollable.close()
            # A thread that is just about to register must not get the number's next owner.
            pollable.fd = -1

    def __del__(self) -> None:
        # Runs anywhere, also in hub code; nobody waits, since who waits refers to this socket.
        try:
            self._forget()
        except (AttributeError, OSError):
            pass  # __init__ failed, or the number was closed behind our back
        super().__del__()  # type: ignore[misc]

    def _alive(self) -> None:
        if _fileno(self) < 0:
            raise OSError(EBADF, os.strerror(EBADF))


def _wake_all(pollable: Pollable, direction: int) -> None:
    """Have every waiter of one direction look again. On the owning hub."""
    slot = "reader" if direction == READ else "writer"
    task = getattr(pollable, slot)
    if task is not None and task.glet is not None:  # else a detached connection's
        setattr(pollable, slot, None)
        wake(task)
    for seat in list(pollable.crowd or ()):
        if seat.direction == direction and pollable.leave(seat):
            seat.offer()


def _seconds(value: float) -> float:
    """A timeout as the stdlib takes it, or the stdlib's own error."""
    if type(value) in (int, float) and 0 <= value < CENTURY:
        return float(value)
    unopened = _C.__new__(_C)
    try:
        _settimeout(unopened, value)
    except OSError:
        pass  # the number was in order; the fd, which comes next, is not
    checked = _gettimeout(unopened)
    assert checked is not None
    return checked


def _moment(when: float | None) -> int:
    """A deadline in nanoseconds from seconds of time.monotonic()."""
    if when is None:
        return FAR
    if when != when:
        raise ValueError("a deadline can't be NaN")
    return FAR if when > FAR / 1e9 - 1 else ceil(max(when, 0.0) * 1_000_000_000)
