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
   itself. What it does by ``latched`` to an object that nobody is busy with is done there and then;
   all else it is told not to do, by ``held_up``.
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


def of_this_thread(latch: Latch) -> Latch:
    """The same latch; without the GIL by methods that this thread owns, which it uses for less."""
    if not FREE_THREADED:
        return latch
    lock: Any = latch[0].__self__  # type: ignore[attr-defined]
    return lock.acquire, lock.release


def in_order(latches: Iterable[Latch]) -> list[Latch]:
    """Each of several latches once, in the order in which all who need several enter them."""
    return [latch for _, latch in sorted({id(latch): latch for latch in latches}.items())]


def held_up(latch: Latch, error: BaseException, owner: object = None) -> bool:
    """``enter`` raised ``error``: enter as soon as another thread leaves; whether that was needed.

    False when this thread itself is inside, and not busy with ``owner``. Raises HubError when it is
    busy with that, or with None, and an error that isn't ``enter``'s own.
    """
    enter, leave = latch
    if type(error) is not IndexError:
        leave()  # a signal handler raised; and a token that is there already is no second one
        raise error
    while True:
        outer = _interrupted()
        try:
            enter()
        except IndexError:
            pass
        else:
            return True
        if outer:
            if owner is not None and not any(_is_busy_with(owner, frame) for frame in outer):
                return False
            raise HubError(
                "a finaliser, signal handler or trace function used a channel while it interrupted "
                "an operation on a channel; let it spawn a task for that"
            )
        sleep(0)  # lets go of the GIL


def _interrupted() -> list[FrameType]:
    """Those who were about to enter a latch on this thread before the last one, who found it taken.

    None, when another thread is about to: then it is that one who is inside.
    """
    outer = [frame for frame in _stack(sys._getframe()) if frame.f_code in _entering][1:]
    if outer:
        me = get_ident()
        others = [frame for ident, frame in sys._current_frames().items() if ident != me]
        if any(each.f_code in _entering for frame in others for each in _stack(frame)):
            return []
    return outer


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_busy_with(owner: object, frame: FrameType) -> bool:
    """By the names that those who enter latches have for what they do it to."""
    names = frame.f_locals
    busy_with = [names.get("self"), getattr(names.get("fn"), "__self__", None), names.get("line")]
    ways: Any = names.get("ways") or getattr(names.get("self"), "ways", ())
    return any(each is owner for each in [*busy_with, *(case.channel for case in ways)])


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
    """``fn(*args)``, a method of the object that the latch is for, inside the latch."""
    enter, leave = latch
    try:
        enter()
    except BaseException as error:
        if not held_up(latch, error, getattr(fn, "__self__", None)):
            return fn(*args)
    try:
        return fn(*args)
    finally:
        leave()
