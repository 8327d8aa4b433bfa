"""Prefork: worker processes under a supervisor that replaces those that die.

Invariants
----------
1. A worker starts with a hub of its own: of the supervisor's tasks it inherits nothing but memory.
   They are kept alive and never run, since freeing one would unwind it and run its ``finally``.
2. A worker never returns into the supervisor's code: it leaves by ``os._exit``.
3. Workers don't outlive the supervisor. They hold one end of a socketpair whose other end only the
   supervisor has; its EOF tells of a death that no signal announced.
4. Signals are blocked around the fork, so none finds the supervisor's handlers in a worker.
5. A process is signalled through its pidfd, which can't come to mean another one.

Rejected: multiprocessing (its children run the parent's atexit handlers, and it starts threads);
SIGCHLD (it belongs to the program); PR_SET_PDEATHSIG (it follows the forking *thread*).
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket as _stdlib
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from ..hub.fork import leave_hub
from ..hub.hub import Hub
from ..hub.interrupt import calls_user_code
from ..hub.local import this_hub
from ..hub.pollable import Pollable
from ..hub.scope import Scope, move_on_after, shield
from ..hub.spawning import sleep, spawn
from ..hub.task import Task
from ..offload import retire_idle
from ..sys.pidfd import Pidfd
from .listen import socketpair
from .socket import Socket

__all__ = ["supervise"]

FIRST_BACKOFF: Final = 0.1
LONGEST_BACKOFF: Final = 10.0
"""Seconds before a worker that died is replaced; doubled for one that lived no longer than that."""
KILL_AFTER: Final = 2.0
"""Seconds after the grace that a worker has for its clean-up."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger("greenpump.serve")


def supervise(
    work: Callable[[int], None], count: int, grace: float, stops: Callable[[], None]
) -> None:
    """Run ``work(number)`` in ``count`` forked processes, replacing those that end; parks.

    It ends like ``serve``: by cancel or Ctrl-C, and, in a main thread where nobody handles it, by
    SIGTERM, after which it returns. Workers get SIGTERM, and SIGKILL two seconds after ``grace``.
    In a worker SIGTERM and SIGINT cancel ``work``. ``stops()`` is called when the end begins: what
    the supervisor keeps open for a next worker (a listener!) is to be closed then, not after it.
    """
    ours, theirs = socketpair()
    with ours, theirs:
        fleet = _Fleet(work, ours, theirs)
        with move_on_after() as scope, _Termination(scope):
            try:
                fleet.start(count)
                sleep(math.inf)
            finally:
                stops()
                with shield():
                    fleet.stop(grace)


class _Termination:
    """SIGTERM cancels a scope, where it would have ended the process."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._set = False

    def __enter__(self) -> None:
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        ):
            signal.signal(signal.SIGTERM, _canceller(this_hub(), self._scope))
            self._set = True

    def __exit__(self, *_: object) -> None:
        if self._set:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _canceller(hub: Hub, scope: Scope) -> Callable[[int, Any], None]:
    """A signal handler that cancels ``scope``; by a post, since it may strike in hub code."""

    def handle(signum: int, frame: Any) -> None:
        hub.post(scope.cancel)

    return handle


class _Fleet:
    """The workers, each kept by a task of the supervisor."""

    def __init__(self, work: Callable[[int], None], ours: Socket, theirs: Socket) -> None:
        self._work = work
        self._ours = ours
        self._theirs = theirs
        self._keepers: dict[int, Task[None]] = {}
        self._live: dict[int, Pidfd] = {}
        self._stopping = False

    def start(self, count: int) -> None:
        for number in range(count):
            keeper = spawn(self._keep, number)
            keeper.name = f"keeper of worker {number}"
            self._keepers[number] = keeper

    def stop(self, grace: float) -> None:
        """Have the workers end, and wait for them."""
        self._stopping = True
        self._signal(signal.SIGTERM)
        for number, keeper in self._keepers.items():
            if number not in self._live:
                keeper.cancel("the server stops")  # it only waits to replace a worker
        try:
            with move_on_after(grace + KILL_AFTER):
                self._join()
        finally:
            for worker in self._live.values():
                log.error(
                    "worker pid %d is killed: it has not ended %g s after SIGTERM",
                    worker.pid,
                    grace + KILL_AFTER,
                )
            self._signal(signal.SIGKILL)
            with shield():
                self._join()

    def _join(self) -> None:
        for keeper in self._keepers.values():
            keeper.join()

    def _signal(self, signum: int) -> None:
        for worker in self._live.values():
            try:
                worker.send_signal(signum)
            except ProcessLookupError:
                pass  # it ended and its keeper is about to see it

    def _keep(self, number: int) -> None:
        """Start worker ``number`` and replace it for as long as the server runs."""
        backoff = FIRST_BACKOFF
        clock = this_hub().timers.clock
        while not self._over():
            born = clock()
            how = self._run_worker(number)
            lived = (clock() - born) / 1e9
            if self._over():
                return
            if lived > LONGEST_BACKOFF:
                backoff = FIRST_BACKOFF
            log.error(
                "worker %d %s after %.1f s; another one starts in %g s", number, how, lived, backoff
            )
            sleep(backoff)
            backoff = min(2 * backoff, LONGEST_BACKOFF)

    def _over(self) -> bool:
        return self._stopping

    def _run_worker(self, number: int) -> str:
        """Fork a worker and wait for its end; what became of it, for the log."""
        try:
            pid = self._fork(number)
        except OSError as error:
            return f"could not be forked ({error})"
        worker = Pidfd(pid)
        self._live[number] = worker
        ended = Pollable(worker.fileno())
        try:
            while (result := worker.try_wait()) is None:
                ended.wait_read()
        finally:
            ended.close()
            worker.close()
            del self._live[number]
        if result.si_code == os.CLD_EXITED:
            return f"(pid {pid}) ended with status {result.si_status}"
        return f"(pid {pid}) was ended by {signal.Signals(result.si_status).name}"

    def _fork(self, number: int) -> int:
        retire_idle()  # a process of one thread has a sound child
        sys.stdout.flush()
        sys.stderr.flush()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if not pid:
                self._be_worker(number, before)
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @calls_user_code
    def _be_worker(self, number: int, signals: set[Any]) -> None:
        """The child's whole life."""
        status = 1
        try:
            leave_hub()
            hub = this_hub()
            self._ours.close()
            with move_on_after() as scope:
                handle = _canceller(hub, scope)
                for signum in _SIGNALS:
                    signal.signal(signum, handle)
                signal.pthread_sigmask(signal.SIG_SETMASK, signals)
                spawn(_watch, self._theirs, scope)
                self._work(number)
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            log.exception("worker %d failed", number)
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)


def _watch(lifeline: _stdlib.socket, scope: Scope) -> None:
    """End the worker when the supervisor is gone."""
    lifeline.recv(1)
    scope.cancel("the supervisor is gone")
