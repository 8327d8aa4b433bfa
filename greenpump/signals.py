"""signals: the process's signals as messages of a channel.

Handlers, not a signalfd
------------------------
A signalfd takes only what *every* thread blocks: the kernel hands a process's signal to any thread
that doesn't, and there the default action ends the process. No thread can block a signal for
others, so it could only serve programs whose other threads all start later. And a blocked signal
stays blocked in every child, across exec: SIGTERM would no longer end what the program starts,
by the subprocess module or by a C library. So this is built on CPython's own handlers. Those
are the process's, whatever thread the kernel picks; masks are never touched; exec resets them; and
the hub's wake-up fd (``hub/interrupt.py``) ends the sleep of a main thread that missed the signal.
The price: no ``siginfo`` (sender, sigqueue's value); who needs that has ``greenpump.sys.signalfd``.

Invariants
----------
1. ``_listening`` says who wants what. It changes under ``_changing``, by replacing tuples, so the
   handler reads it without a lock. ``_before`` and the process's handlers are the main thread's
   alone: ``_adjust`` brings them in line with ``_listening``, and may do so any number of times.
2. The handler may have struck inside a channel's lock (law 10 of the hub). So it delivers nothing:
   it posts a step to the listener's hub.
3. A listener lives no longer than its hub. A signal that no listener is left for is given back:
   the former handler is restored and the signal raised anew.
4. A signal stands once at most in a channel's buffer, which has room for each, and once at most in
   the hub's inbox on its way there: a storm of them takes no memory.
"""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from functools import partial
from operator import index
from os import register_at_fork
from types import FrameType, TracebackType
from typing import Any, Final, Literal, Self, TypeVar

from .hub.hub import Hub
from .hub.interrupt import Interrupts
from .hub.local import hub_or_none, hubs, this_hub
from .hub.task import Task
from .hub.wait import wake
from .sync.channel import NOTHING, Channel, Mark
from .sync.event import Event
from .sync.latch import latched

__all__ = ["SignalChannel", "signals"]

S = TypeVar("S", bound=int)

_NEVER: Final = {signal.SIGKILL, signal.SIGSTOP}
_FAULTS: Final = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}

_changing = threading.Lock()
_listening: dict[int, tuple[SignalChannel[Any], ...]] = {}
_before: dict[int, Any] = {}
"""The handlers that ours stand in for."""


class SignalChannel(Channel[S]):
    """A channel that signals arrive on; made by ``signals``. ``close`` ends the listening.

    It is received from as any Channel, also by several tasks; a signal goes to one of them. Source:
    the channel of Go's signal.Notify, and ``close`` its signal.Stop.
    """

    __slots__ = ("_hub", "_on_its_way", "_signums")

    def __init__(self, *signums: S) -> None:
        if not signums:
            raise ValueError("signals() needs the signals to listen to")
        self._signums: dict[int, S] = {index(signum): signum for signum in signums}
        for signum in self._signums:
            _check(signum)
        super().__init__(len(self._signums))
        self.first_used()  # here, on the hub that puts into it what arrives
        self._hub: Hub = this_hub()
        self._on_its_way: set[int] = set()
        with _changing:
            for signum in self._signums:
                others = (each for each in _listening.get(signum, ()) if not each._hub.closed)
                _listening[signum] = (*others, self)
        try:
            _apply(tuple(self._signums))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop listening; the former handlers are back when no other channel listens.

        Signals that came before are received still, then receiving raises ChannelClosed and
        iterations end. Doesn't park. In another thread than the main one the handlers are given
        back a moment later, by the main thread's hub. Raises ChannelClosed when closed already.
        """
        super().close()
        with _changing:
            for signum in self._signums:
                left = tuple(each for each in _listening.get(signum, ()) if each is not self)
                _listening[signum] = left
        step = partial(_adjust, tuple(self._signums))
        if _in_main_thread():
            step()
        elif (main := _main_hub()) is not None:
            main.post(step)  # without one, the handler gives itself back when it is called

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self.closed:
            self.close()

    def __repr__(self) -> str:
        names = ", ".join(_name(signum) for signum in self._signums)
        return f"<SignalChannel of {names}: {len(self)} arrived{', closed' * self.closed}>"

    def _announce(self, signum: int) -> None:
        """The handler's part: have the hub deliver the signal, unless it is about to anyway."""
        if signum not in self._on_its_way:
            self._on_its_way.add(signum)
            self._hub.post(partial(self._arrive, signum))

    def _arrive(self, signum: int) -> None:
        """A step of hub code on ``_hub``: put the signal into the buffer, or hand it over."""
        # First: one that comes from now on is announced anew.
        self._on_its_way.discard(signum)
        signal_ = self._signums[signum]
        receiver = latched(self._latch, self._put_new, signal_)
        if receiver is not None and receiver is not NOTHING:
            wake(receiver)

    def _put_new(self, signal_: S) -> Task[Any] | Literal[Mark.NOTHING] | None:
        return NOTHING if self._closed or signal_ in self._buffer else self._put(signal_)


def signals(*signums: S) -> SignalChannel[S]:
    """Listen to signals: a channel that each of ``signums`` is received from when it comes.

    ::

        with gp.signals(signal.SIGTERM, signal.SIGHUP) as arriving:
            for signum in arriving:
                ...

    From this call to ``close``, or to the end of a ``with`` block, the signals no longer have their
    default action, nor do handlers of the program get them. All channels that listen to a signal
    receive it. SIGINT raises KeyboardInterrupt as ever unless it is among ``signums``. A ``select``
    takes the channel as any other.

    Receiving too slowly loses no signal, but how often one came: it is not put in line while it
    already is. (The kernel does the same with pending ones.) That holds for real-time signals, too.

    It listens for the whole process, whichever threads run, also such as were started before, and
    leaves signal masks alone. Children get the default actions at exec; a child of ``os.fork``
    listens on if the forking thread did. The main thread has to be alive, and executes the handler:
    a call of C code there that neither returns nor heeds signals holds them up, on every hub. In
    another thread this parks until the main thread's hub has set the handlers; there, it doesn't.

    Raises ValueError for what is no signal, can't be caught (SIGKILL, SIGSTOP) or means that the
    code itself has failed (SIGSEGV, SIGBUS, SIGFPE, SIGILL: see the module ``faulthandler``);
    RuntimeError in another thread while the main thread has no hub, and for a signal whose handler
    was set by C code, which could not be put back. Source: Go's os/signal.Notify.
    """
    return SignalChannel(*signums)


def _check(signum: int) -> None:
    if signum not in signal.valid_signals():
        raise ValueError(f"no such signal: {signum}")
    if signum in _NEVER:
        raise ValueError(f"{_name(signum)} can't be caught")
    if signum in _FAULTS:
        raise ValueError(f"{_name(signum)} says that code has failed, which can't go on as if not")


def _name(signum: int) -> str:
    with suppress(ValueError):
        return signal.Signals(signum).name
    return f"signal {signum}"


# -- the process's handlers ------------------------------------------------------------------------


def _apply(signums: tuple[int, ...]) -> None:
    """``_adjust``, in the main thread; parks in every other. Raises what it raises."""
    if _in_main_thread():
        _adjust(signums)
        return
    main = _main_hub()
    if main is None:
        raise RuntimeError(
            "the main thread has no hub, and only it can set signal handlers: listen there, or "
            "have the main thread use greenpump first"
        )
    done = Event()
    errors: list[BaseException] = []

    def step() -> None:
        try:
            _adjust(signums)
        except (OSError, RuntimeError) as error:
            errors.append(error)
        done.set()

    main.post(step)
    done.wait()
    if errors:
        raise errors.pop()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _main_hub() -> Hub | None:
    main = threading.main_thread()
    return next((hub for hub in list(hubs) if hub.thread is main and not hub.closed), None)


def _adjust(signums: tuple[int, ...]) -> None:
    """Set our handler where somebody listens, and give it back where nobody does any more."""
    for signum in signums:
        if not _listening.get(signum):
            _give_back(signum)
        elif signum not in _before:
            before = signal.getsignal(signum)
            if before is None:
                raise RuntimeError(
                    f"the handler of {_name(signum)} was set by C code and could not be put back"
                )
            _before[signum] = before
            signal.signal(signum, _on_signal)


def _give_back(signum: int) -> bool:
    """Restore the former handler, unless somebody has set another one; whether it did."""
    before = _before.get(signum)
    if before is None or signal.getsignal(signum) is not _on_signal:
        _before.pop(signum, None)
        return False
    if before is signal.default_int_handler or _is_a_hubs(before):
        # That of the main thread's hub, which may have come or gone since.
        hub = hub_or_none()
        interrupts = None if hub is None else hub.interrupts
        before = signal.default_int_handler if interrupts is None else interrupts.on_sigint
    signal.signal(signum, before)
    # Last: the signal may come between any two lines, and its handler does all this itself then.
    _before.pop(signum, None)
    return True


def _is_a_hubs(handler: Any) -> bool:
    return isinstance(getattr(handler, "__self__", None), Interrupts)


def _on_signal(signum: int, frame: FrameType | None) -> None:
    """The handler. In the main thread, between any two lines."""
    live = [each for each in _listening.get(signum, ()) if not each._hub.closed]
    for listener in live:
        listener._announce(signum)
    if not live and _give_back(signum):
        signal.raise_signal(signum)


def _forked() -> None:
    """In the child: another thread of the parent may have held the lock."""
    global _changing
    _changing = threading.Lock()


register_at_fork(after_in_child=_forked)
