"""Ctrl-C and the other signals (law 4).

CPython runs signal handlers in the main thread, between any two bytecodes: also in the middle of
``park``, where a KeyboardInterrupt would tear the scheduler apart. So while the main thread's hub
lives and nobody has installed a handler of their own, SIGINT is ours: if the interrupted code is
the user's, KeyboardInterrupt is raised at once; if it is greenpump's, it is raised in the main
task, at its present or else its next wait. The main task gets it in any case: another task may
swallow it, and C code that called the user's may turn it into an error of its own.

A signal that the kernel delivers to another thread, or just before ``epoll_wait``, leaves the hub
asleep; ``signal.set_wakeup_fd`` has C code write a byte to a socketpair then (an eventfd refuses
writes of one byte), and that wakes it.

Other signals' handlers are the program's, and CPython runs them wherever it is. One that raises, as
SIGTERM's that calls ``sys.exit()``, leaves the hub in order; in hub code its exception goes to the
main task, or to the task that was about to go on, and it may take along a wake-up that was on its
way. So raise there to end the program; for all else have the handler spawn or cancel a task.

Hub code acquires a lock inside a ``try``, never by ``with``: from CPython 3.14 on a handler that
raises may strike after ``__enter__`` and before the block, and the lock stays taken for ever.

Rejected: raising wherever it lands (under a storm of signals 199 of 200 tasks were lost); blocking
SIGINT in hub code (two syscalls per park).
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import CodeType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .hub import Hub

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
F = TypeVar("F", bound=Callable[..., Any])
_callers: set[CodeType] = set()


def calls_user_code(function: F) -> F:
    """Mark a function of greenpump that calls the user's: what it calls may be interrupted."""
    _callers.add(function.__code__)
    return function


def interruptible(frame: FrameType | None) -> bool:
    """Whether KeyboardInterrupt may be raised in ``frame``: no code of greenpump is cut short.

    A frame of ours is in order only below the user's code that it called on purpose; under any
    other callee (a finaliser, a function of the stdlib) it was itself interrupted.
    """
    top = True
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(PACKAGE) and (top or code not in _callers):
            return False
        top = False
        frame = frame.f_back
    return True


def came_of_interrupt(error: BaseException) -> bool:
    """Whether ``error`` is what became of a Ctrl-C that the main task is told of anyway."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, KeyboardInterrupt) and hasattr(cause, "told_to_main"):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False


def raised_by_hub(error: BaseException) -> bool:
    """Whether ``error`` started in greenpump's code, rather than in a handler that ran in it."""
    step: TracebackType | None = error.__traceback__
    filename = PACKAGE
    while step is not None:
        filename = step.tb_frame.f_code.co_filename
        step = step.tb_next
    return filename.startswith(PACKAGE)


class Interrupts:
    """What the main thread's hub holds of the process's signal handling."""

    __slots__ = ("_before", "_listener", "_wakeup_fd", "_writer", "hub", "on_sigint")

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._listener, self._writer = socket.socketpair()
        self._listener.setblocking(False)
        self._writer.setblocking(False)
        self._wakeup_fd = self._writer.fileno()
        self._before = signal.set_wakeup_fd(self._wakeup_fd, warn_on_full_buffer=False)
        hub.watch_internal(self._listener.fileno())
        # One object, so that uninstall can tell whether the handler is still ours.
        self.on_sigint: Callable[[int, FrameType | None], Any] = self._on_sigint
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self.on_sigint)

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        hub = self.hub
        error = KeyboardInterrupt()
        raised = interruptible(frame)
        if not raised or hub.current is not hub.main:
            error.told_to_main = False  # type: ignore[attr-defined]
            hub.inbox.append(partial(hub.to_main, error))
        if raised:
            raise error

    def drain(self) -> None:
        """Empty the wake-up pipe; pass the bytes on to whoever had it before us."""
        try:
            signums = self._listener.recv(4096)
        except BlockingIOError:
            return
        if self._before >= 0:
            with suppress(OSError):
                os.write(self._before, signums)

    def fds(self) -> set[int]:
        """Both ends of the wake-up pipe."""
        return {self._listener.fileno(), self._writer.fileno()}

    def uninstall(self) -> None:
        """Give the signal handling back as it was, where it is still ours. Twice does no harm."""
        try:
            now = signal.set_wakeup_fd(-1)
        except (ValueError, AttributeError):
            pass  # not in the main thread; or the interpreter exits, and ``signal`` is gone
        else:
            signal.set_wakeup_fd(self._before if now == self._wakeup_fd else now)
            if signal.getsignal(signal.SIGINT) == self.on_sigint:
                signal.signal(signal.SIGINT, signal.default_int_handler)
        self._listener.close()
        self._writer.close()


def install(hub: Hub) -> Interrupts | None:
    """Take over SIGINT and the wake-up fd if ``hub`` is the main thread's."""
    if hub.thread is not threading.main_thread():
        return None
    return Interrupts(hub)
