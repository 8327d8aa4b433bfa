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
3. With the GIL there is one latch for all channels (``new_latch``): only one thread executes at a
   time anyway, and a ``select`` enters one latch and not one for each of its channels. And there is
   one for all timers. So a finaliser (or a signal handler, a trace function) that strikes inside
   and uses any other of them would wait for itself. What it does by ``latched`` to an object that
   nobody is busy with is done there and then; all else it is told not to do, by ``held_up``.
   Whether a thread is inside is read from where its own functions stand (``_places_inside``):
   nothing is noted on the way in and out.
4. Without the GIL each object has its own, a Lock. Who strikes inside and uses the same object is
   told so, too, if it does that by ``latched``; who does it otherwise would wait for itself.
5. A fork is made inside both of these: in the child no thread is left that could leave them.
6. A signal handler of the program's that raises just as ``enter`` has succeeded leaves no latch
   taken: ``held_up`` is told of its error, too, and gives the token back.

A token costs a third of what ``Lock.acquire`` and ``release`` do, which parse arguments and measure
time. Only those who use many latches in a microsecond need one; the rest is served by a Lock.

Rejected: ``Lock`` with the GIL, too (as said; and where this raises, it deadlocks); a token without
the GIL, too (half as many messages between two hubs: an exception for each time that it is taken);
``RLock`` (twice inside is what must not be); to look at the other threads, too, for who is inside
(they go on meanwhile, and those who wait look the same: two that had to wait for each other did so
for ever); one for each channel with the GIL, too (four are a
quarter of what a select of four costs).
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dis import get_instructions
from functools import partial
from os import register_at_fork
from threading import Lock
from time import sleep
from types import CodeType, FrameType, MethodType
from typing import Any, Final, TypeAlias, TypeVar

from ..errors import HubError
from ..hub.local import FREE_THREADED

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")
Latch: TypeAlias = tuple[Callable[[], object], Callable[[], object]]
"""What enters it and what leaves it."""

_entering: dict[CodeType, frozenset[int] | None] = {}
"""The functions that enter a latch; where they are inside is found out when that is asked."""


def enters_latch(function: F) -> F:
    """A decorator for functions that enter a latch: so ``held_up`` knows them.

    They are to do it as shown above, line by line and with these very names; the latch is what
    they call ``latch``, or that of what they call ``line`` or ``self``.
    """
    _entering[function.__code__] = None
    return function


def own_latch() -> Latch:
    """A latch for an object that shares it with nobody."""
    if FREE_THREADED:
        lock = Lock()
        return lock.acquire, lock.release
    token: deque[bool] = deque((True,), 1)
    return token.pop, MethodType(token.append, True)  # append(True), without arguments


EVERYBODYS: Final[tuple[Latch, ...]] = () if FREE_THREADED else (own_latch(),)
"""The one latch of all channels, with the GIL."""

TIMERS: Final[Latch | None] = None if FREE_THREADED else own_latch()
"""That of all timers, which a select enters while it is inside the other one."""


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
    traceback = error.__traceback__
    if type(error) is not IndexError or (traceback and traceback.tb_next):
        leave()  # a signal handler raised; and a token that is there already is no second one
        raise error
    inside = [frame for frame in _stack(sys._getframe(1)) if _is_inside(frame, latch)]
    if inside:
        if owner is not None and not any(_is_busy_with(owner, frame) for frame in inside):
            return False
        raise HubError(
            "a finaliser, signal handler or trace function used a channel or timer while it "
            "interrupted an operation on one; let it spawn a task for that"
        )
    while True:
        try:
            enter()
        except IndexError:
            sleep(0)  # lets go of the GIL: another thread is inside, and about to leave
        else:
            return True


_entering[held_up.__code__] = None


def _stack(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_inside(frame: FrameType, latch: Latch) -> bool:
    """Whether a frame of this thread was interrupted inside ``latch``: by where it stands."""
    code = frame.f_code
    if code not in _entering:
        return False
    places = _entering[code]
    if places is None:
        places = _entering[code] = _places_inside(code)
    if frame.f_lasti not in places:
        return False
    names = frame.f_locals
    owner = names.get("line") or names.get("self")
    return (names.get("latch") or getattr(owner, "_latch", None)) is latch


def _places_inside(code: CodeType) -> frozenset[int]:
    """The instructions at which a function that enters a latch is inside, by their offsets.

    That is the call of ``enter``, since what strikes there comes when it has returned; and what
    lies between the lines of ``held_up()`` and of ``leave()``.
    """
    instructions = list(get_instructions(code))
    ends = [each.offset for each in instructions[1:]] + [len(code.co_code)]
    lines: dict[int, int] = {}
    last = code.co_firstlineno
    for start, end, line in code.co_lines():
        last = line or last  # what has none is the end of what comes before
        lines.update(dict.fromkeys(range(start, end), last))

    def lines_with(name: str) -> set[int]:
        return {
            lines[each.offset]
            for each in instructions
            if each.opname.startswith("LOAD")
            and name in (each.argval if isinstance(each.argval, tuple) else (each.argval,))
        }

    entering, leaving = lines_with("enter"), lines_with("leave")
    between: set[int] = set()
    for held in lines_with("held_up"):
        between.update(range(held + 1, min((line for line in leaving if line > held), default=0)))
    places: set[int] = set()
    for each, end in zip(instructions, ends, strict=True):
        line = lines[each.offset]
        if line in between or (line in entering and each.opname.startswith("CALL")):
            places.update(range(each.offset, end))  # with its caches, where 3.11 stands in a call
    return frozenset(places)


def _is_busy_with(owner: object, frame: FrameType) -> bool:
    """By the names that those who enter latches have for what they do it to."""
    names = frame.f_locals
    busy_with = [names.get("self"), getattr(names.get("fn"), "__self__", None), names.get("line")]
    ways: Any = names.get("ways") or getattr(names.get("self"), "ways", ())
    return any(each is owner for each in [*busy_with, *(case.channel for case in ways)])


@enters_latch
def _enter_to_fork(latch: Latch) -> None:
    enter, _ = latch
    try:
        enter()
    except BaseException as error:
        held_up(latch, error)


for _latch in (TIMERS, *EVERYBODYS):  # the last is entered first, as a select does
    if _latch is not None:
        register_at_fork(
            before=partial(_enter_to_fork, _latch),
            after_in_parent=_latch[1],
            after_in_child=_latch[1],
        )


@enters_latch
def latched(latch: Latch, fn: Callable[..., R], *args: Any) -> R:
    """``fn(*args)``, a method of the object that the latch is for, inside the latch."""
    enter, leave = latch
    try:
        if not FREE_THREADED:
            enter()
        elif not enter(False):  # type: ignore[call-arg]
            raise IndexError  # as a token does, so that this is asked, too, whether it is inside
    except BaseException as error:
        if not held_up(latch, error, getattr(fn, "__self__", None)):
            return fn(*args)
    try:
        return fn(*args)
    finally:
        leave()
