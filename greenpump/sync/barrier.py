"""Barrier: a place where a fixed number of tasks wait for each other.

Invariants (those of ``waiters.py``, and)
-----------------------------------------
1. The line holds the tasks of the present round; the one that completes it lets all in at once.
   So a round never mixes with the next, and the barrier can be used again immediately.
2. A round ends in one way for all its tasks: all pass, or all get BrokenBarrierError (but for the
   one whose own error broke it).
3. Any wait that ends otherwise breaks the barrier: a timeout, as threading's, and so also a cancel,
   which is what a timeout around it is. The others would wait for ever for a task that is gone.

Rejected: a cancelled task that just leaves (asyncio's): one of the parties will be missing, and
nobody says so.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from threading import BrokenBarrierError
from typing import Final

from ..hub.interrupt import calls_user_code
from ..hub.local import this_hub
from ..hub.task import Task
from ..hub.timers import FAR
from .mutex import Mutex
from .waiters import Waiters, wake_all

BROKEN: Final = -1
"""What a task is granted instead of its number when the barrier broke."""


class Barrier(Waiters[int]):
    """``barrier.wait()`` parks until ``parties`` tasks do; then all go on, and a new round begins.

    ``action``, if given, is called by the last to come before the others go on; if it raises, the
    barrier breaks. Usable from tasks of any hub and from any thread. Raises ValueError when
    ``parties`` is below 1.

    Source: threading.Barrier, java.util.concurrent.CyclicBarrier.
    """

    __slots__ = ("_acting", "_action", "_broken", "_parties", "_timeout")

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__()
        parties = index(parties)
        if parties < 1:
            raise ValueError(f"a barrier needs at least 1 party: {parties}")
        self._parties = parties
        self._action = action
        self._timeout = timeout
        self._broken = False
        self._acting = Mutex()  # with more tasks than parties, rounds overlap

    @property
    def parties(self) -> int:
        """How many tasks make a round."""
        return self._parties

    @property
    def n_waiting(self) -> int:
        """How many tasks of the present round wait."""
        return len(self._line)

    @property
    def broken(self) -> bool:
        """Whether ``wait`` raises BrokenBarrierError, until ``reset``."""
        return self._broken

    @calls_user_code
    def wait(self, timeout: float | None = None) -> int:
        """Park until all parties wait; each gets another number from 0 to ``parties`` - 1.

        The number says who came as the how-manieth. Raises threading.BrokenBarrierError when the
        barrier is broken, breaks or is reset meanwhile, and when ``timeout`` seconds pass first
        (without, the barrier's own timeout): that breaks it for the others, too. So does a
        Cancelled, also one raised at once in a scope that was cancelled before. Raises ValueError
        for a negative timeout.
        """
        hub = this_hub()
        if timeout is None:
            timeout = self._timeout
        deadline = FAR if timeout is None else hub.timers.after(timeout)
        try:
            task = hub.prepare()
            try:
                let_in = self._arrive(task)
                if let_in:
                    self._complete(task, let_in)
                elif not hub.wait(task, self, deadline):
                    raise BrokenBarrierError(
                        f"not all {self._parties} parties came within {timeout} s: {self!r}"
                    )
                number = self._granted.pop(task)
            except BaseException:
                self._leave(task)
                raise
        except BrokenBarrierError:
            raise
        except BaseException:
            self.abort()
            raise
        if number == BROKEN:
            raise BrokenBarrierError(f"{self!r} is broken, or was reset")
        return number

    def abort(self) -> None:
        """Break the barrier: all that wait, and will, get BrokenBarrierError. Doesn't park."""
        with self._lock:
            self._broken = True
            let_in = self._let_in()
        wake_all(let_in)

    def reset(self) -> None:
        """Begin anew, unbroken: those that wait get BrokenBarrierError. Doesn't park."""
        with self._lock:
            self._broken = True
            let_in = self._let_in()
            self._broken = False
        wake_all(let_in)

    def _arrive(self, task: Task[int]) -> list[Task[int]]:
        """Put ``task`` into the round; if it completes that, or the barrier is broken: who goes."""
        with self._lock:
            self._open_line()[task] = 0
            return self._let_in()

    @calls_user_code
    def _complete(self, task: Task[int], let_in: list[Task[int]]) -> None:
        """``task`` has come as the last, or to a broken barrier: let go whom that lets in."""
        action = self._action
        if action is not None and self._granted[task] != BROKEN:
            try:
                with self._acting:
                    action()
            except BaseException:
                with self._lock:
                    self._broken = True
                    for each in let_in:
                        if each in self._granted:
                            self._granted[each] = BROKEN
                wake_all(other for other in let_in if other is not task)
                raise
        wake_all(other for other in let_in if other is not task)

    def _let_in(self) -> list[Task[int]]:
        let_in: list[Task[int]] = []
        if self._broken or len(self._line) == self._parties:
            while self._line:
                task = self._grant()
                self._granted[task] = BROKEN if self._broken else len(let_in)
                let_in.append(task)
        return let_in

    def _left(self) -> list[Task[int]]:
        self._broken = True
        return self._let_in()

    def _state(self) -> str:
        state = f"{len(self._line)} of {self._parties} parties"
        return f"{state}, broken" if self._broken else state
