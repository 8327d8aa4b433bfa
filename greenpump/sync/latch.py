"""Latch: keeps other threads out of a few lines that neither park nor call out.

    enter, leave = latch
    try:
        enter()
    except BaseException as error:
        held_up(latch, error)
    try:
        ...
    finally:
        leave()

Invariants
----------
1. Nobody parks, wakes or calls anything of the user's inside. So who finds a latch taken waits for
   a thread that is about to leave.
2. With the GIL a latch is a token in a deque, which ``enter`` pops and ``leave`` puts back. Both
   are atomic, and there is room for one. Who finds none lets go of the GIL until there is one.
3. With the GIL there is one latch for everybody (``new_latch``): only one thread executes at a time
   anyway, and a ``select`` enters one latch and not one for each of its channels. So a finaliser
   (or a signal handler, a trace function) that strikes inside and uses any channel would wait for
   itself. It is told so instead, by ``held_up``.
4. Without the GIL each object has its own, a Lock.
5. A fork is made inside everybody's latch: in the child no thread is left that could leave it.
6. A signal handler of the program's that raises just as ``enter`` has succeeded leaves no latch
   taken: ``held_up`` is told of its error, too, and gives the token back.

A token costs a third of what ``Lock.acquire`` and ``release`` do, which parse arguments and measure
time. Only those who use many latches in a microsecond need one; the rest is served by a Lock.

Rejected: ``Lock`` with the GIL, too (as said; and where this raises, it deadlocks); a token without
the GIL, too (half as many messages between two hubs: an exception for each time that it is taken);
``RLock`` (twice inside is what must not be); one for each channel with the GIL, too (four are a
quarter of what a select of four costs).
"""

from __future__ import annotations

import sys
from _thread import get_ident
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from os import register_at_fork
from threading import Lock
from time import sleep
from types import CodeType, FrameType, MethodType
from typing import Any, Final, TypeAlias, TypeVar

from ..errors import HubError
from ..hub.task import FREE_THREADED

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")
Latch: TypeAlias = tuple[Callable[[], object], Callable[[], object]]
"""What enters it and what leaves it."""

_entering: set[CodeType] = set()


def enters_latch(function: F) -> F:
    """A decorator for functions that enter a latch: so ``held_up`` knows them."""
    _entering.add(function.__code__)
    return function


def own_latch() -> Latch:
    """A latch for an object that shares it with nobody."""
    if FREE_THREADED:
        lock = Lock()
        return lock.acquire, lock.release
    token: deque[bool] = deque((True,), 1)
    return token.pop, MethodType(token.append, True)  # append(True), without arguments


EVERYBODYS: Final[tuple[Latch, ...]] = () if FREE_THREADED else (own_latch(),)
"""The one latch, with the GIL."""


def new_latch() -> Latch:
    """A latch for an object that is about to be made."""
    return EVERYBODYS[0] if EVERYBODYS else own_latch()


def in_order(latches: Iterable[Latch]) -> list[Latch]:
    """Each of several latches once, in the order in which all who need several enter them."""
    return [latch for _, latch in sorted({id(latch): latch for latch in latches}.items())]


def held_up(latch: Latch, error: BaseException) -> None:
    """``enter`` raised ``error``: enter as soon as another thread leaves, else raise.

    Raises HubError if it is this thread that is inside, and an error that isn't ``enter``'s own.
    """
    enter, leave = latch
    if type(error) is not IndexError:
        leave()  # a signal handler raised; and a token that is there already is no second one
        raise error
    while True:
        if _entered_twice():
            raise HubError(
                "a finaliser, signal handler or trace function used a channel while it interrupted "
                "an operation on a channel; let it spawn a task for that"
            )
        sleep(0)  # lets go of the GIL
        try:
            enter()
        except IndexError:
            continue
        return


def _entered_twice() -> bool:
    """Whether this thread was about to enter a latch before, and no other thread is about to."""
    if sum(code in _entering for code in _codes(sys._getframe())) < 2:
        return False
    me = get_ident()
    others = [frame for ident, frame in sys._current_frames().items() if ident != me]
    return not any(code in _entering for frame in others for code in _codes(frame))


def _codes(frame: FrameType | None) -> Iterator[CodeType]:
    while frame is not None:
        yield frame.f_code
        frame = frame.f_back


@enters_latch
def _enter_everybodys() -> None:
    for latch in EVERYBODYS:
        try:
            latch[0]()
        except BaseException as error:
            held_up(latch, error)


def _leave_everybodys() -> None:
    for _, leave in EVERYBODYS:
        leave()


register_at_fork(
    before=_enter_everybodys,
    after_in_parent=_leave_everybodys,
    after_in_child=_leave_everybodys,
)


@enters_latch
def latched(latch: Latch, fn: Callable[..., R], *args: Any) -> R:
    """``fn(*args)``, inside the latch."""
    enter, leave = latch
    try:
        enter()
    except BaseException as error:
        held_up(latch, error)
    try:
        return fn(*args)
    finally:
        leave()
