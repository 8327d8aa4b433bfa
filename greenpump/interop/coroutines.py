"""run_coroutine: a coroutine of asyncio's, run from a task.

Invariants
----------
1. All coroutines run on one event loop, in a thread of its own: made at the first call, ended with
   the program or by ``shut_down``. ``_lock`` guards which helper is the present one.
2. A call begins and is cancelled by steps that ``call_soon_threadsafe`` keeps in order, so a cancel
   always finds the asyncio task. No step is handed to a helper that has been told to stop.
3. ``call.task`` is the task that waits, if one does; whoever takes it under ``_lock`` has claimed
   it. A call ends once: ``done`` is set under the same lock.
4. A cancelled task waits on, shielded, until the coroutine has ended: what it cleans up is done
   when ``run_coroutine`` raises. Only an interruption of that wait leaves it to itself.

Rejected: an event loop for each hub (its selector would be a second place to sleep in, and asyncio
wants the thread for itself); one run by the calling task (``loop.run_until_complete`` stops the hub
meanwhile); letting go at the cancel, as ``offload`` must (a coroutine can be cancelled, a thread
can't).
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from ..errors import Cancelled, HubError, TaskCancelled
from ..hub.local import hub_or_none, this_hub
from ..hub.scope import shield
from ..hub.wait import wake

if TYPE_CHECKING:
    import asyncio

    from ..hub.hub import Hub
    from ..hub.task import Task

T = TypeVar("T")

EXIT_GRACE: Final = 2.0
"""Seconds that coroutines have to end, once cancelled, when the program does."""


def run_coroutine(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on asyncio's event loop, in a thread that all share; park until it has ended.

    Returns what it returns and raises what it raises. It sees a copy of the caller's contextvars.
    What it starts beside itself (``asyncio.create_task``) goes on afterwards on the same loop.

    When a scope's deadline or a cancel ends the wait, the coroutine is cancelled, and once it has
    ended Cancelled is raised; but if it returned or failed all the same, that counts. A coroutine
    that is cancelled on asyncio's side raises TaskCancelled here. At the program's end those that
    still run are cancelled and have two seconds.

    Raises TypeError for what is no coroutine, RuntimeError in a thread whose event loop is running
    (await the coroutine there), Cancelled. After a fork a task that waited for one in the parent
    gets a HubError in the child. Source: asyncio.run_coroutine_threadsafe, trio-asyncio.
    """
    import asyncio  # a third more to import, which most programs don't need

    if not isinstance(coroutine, Coroutine):
        raise TypeError(f"run_coroutine needs a coroutine, not {coroutine!r}")
    try:
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "run_coroutine would stop the event loop that runs in this thread: await "
                f"{_label(coroutine)} there"
            )
        hub = this_hub()
        hub.prepare()
        call = _Call(coroutine)
        _submit(call)
    except BaseException:
        coroutine.close()  # or it would be said that nobody awaited it
        raise
    del coroutine
    hub.externals += 1
    try:
        call.wait(hub)
    finally:
        hub.externals -= 1
    return call.outcome()


def shut_down() -> None:
    """Cancel all coroutines, wait until they have ended, and end the thread; or do nothing.

    For tests that count threads and for programs that fork. The next call makes a new one. Blocks
    the thread, for two seconds at most.
    """
    global _present
    with _lock:
        helper, _present = _present, None
    if helper is not None:
        helper.stop()


class _Helper(threading.Thread):
    """The thread that runs asyncio's event loop."""

    def __init__(self) -> None:
        super().__init__(name="asyncio of greenpump", daemon=True)
        self.loop: asyncio.AbstractEventLoop
        self.calls: set[_Call[Any]] = set()
        self.exiting = False
        self._up = threading.Event()
        self._stopping = False

    def launch(self) -> None:
        """Start the thread; its event loop is there afterwards."""
        self.start()
        self._up.wait()

    def stop(self) -> None:
        """End it. Whoever calls has made sure that no call is handed to it any more."""
        self._stopping = True
        with suppress(RuntimeError):  # it is closed: the thread has ended by itself
            self.loop.call_soon_threadsafe(self.loop.stop)
        self.join(EXIT_GRACE)

    def run(self) -> None:
        import asyncio

        try:
            with asyncio.Runner() as runner:
                self.loop = runner.get_loop()
                self._up.set()
                while not self._stopping:
                    try:
                        self.loop.run_forever()
                    except (KeyboardInterrupt, SystemExit):
                        # asyncio lets these through, and the coroutine's caller has them as well.
                        pass
        except RuntimeError:
            # asyncio ends to_thread's threads from one more thread, which 3.12 no longer starts
            # when the program ends. They are gone by then; and the event loop is closed now.
            if not self.exiting:
                raise


class _Call(Generic[T]):
    """One coroutine, and a task's wait for its end."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self.label = _label(coroutine)
        self.helper: _Helper
        self.task: Task[Any] | None = None
        self.done = self._left = self._cancelled = False
        self._coroutine: Coroutine[Any, Any, T] | None = coroutine
        self._context: Context | None = copy_context()
        self._running: asyncio.Task[T] | None = None
        self._error: BaseException | None = None
        self._value: T

    # -- the task's side ---------------------------------------------------------------------------

    def wait(self, hub: Hub) -> None:
        """Park until it has ended. When that is interrupted, cancel it and see to its end."""
        try:
            self._park(hub)
        except BaseException as interruption:
            self._cancel(str(interruption))
            if hub.closed or not isinstance(interruption, Cancelled):
                self._leave()
                raise
            try:
                with shield():
                    self._park(hub)
            except BaseException:
                self._leave()
                raise
            if self._cancelled:
                raise

    def _park(self, hub: Hub) -> None:
        task = hub.prepare()
        with _lock:
            if self.done:
                return
            self.task = task
        try:
            hub.wait(task, self)
        except BaseException:
            self.abandon(task)  # a signal handler of the program's raised in between
            raise

    def outcome(self) -> T:
        """What the coroutine returned; or its error, raised."""
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            if self._cancelled:
                raise TaskCancelled(f"the coroutine {self.label} was cancelled: {error}") from error
            raise error
        finally:
            del error  # its traceback holds this frame

    def abandon(self, task: Task[Any]) -> bool:
        with _lock:
            if self.task is not task:
                return False
            self.task = None
            return True

    def reason(self, task: Task[Any]) -> str:
        return f"coroutine {self.label}"

    def _cancel(self, reason: str) -> None:
        with suppress(RuntimeError):  # the event loop is closed: it has ended
            self.helper.loop.call_soon_threadsafe(self._cancel_now, reason)

    def _leave(self) -> None:
        """Nobody waits for it any more."""
        with _lock:
            self._left = True
            error = self._error
        if error is not None:
            self._report(error)

    # -- asyncio's side ---------------------------------------------------------------------------

    def begin(self) -> None:
        """Start it. On the event loop."""
        coroutine, self._coroutine = self._coroutine, None
        context, self._context = self._context, None
        assert coroutine is not None
        self._running = self.helper.loop.create_task(coroutine, context=context)
        self._running.add_done_callback(self._ended)

    def _cancel_now(self, reason: str) -> None:
        if self._running is not None:
            self._running.cancel(reason)

    def _ended(self, running: asyncio.Task[T]) -> None:
        self._running = None
        self._cancelled = running.cancelled()
        error: BaseException | None = None
        try:
            self._value = running.result()
        except BaseException as raised:
            error = raised
            if error.__traceback__ is not None:  # this frame is no part of the story
                error.__traceback__ = error.__traceback__.tb_next
        self._settle(error)
        if error is not None and self._left:
            self._report(error)
        del error

    def _settle(self, error: BaseException | None) -> None:
        with _lock:
            self.helper.calls.discard(self)
            self._error = error
            self.done = True
            task, self.task = self.task, None
        if task is not None:
            wake(task)

    def _report(self, error: BaseException) -> None:
        if self._cancelled:
            return
        self.helper.loop.call_exception_handler(
            {"message": f"{self.label} failed after its caller had left", "exception": error}
        )

    def lost(self) -> None:
        """A fork took the thread away. In the child."""
        task = self.task
        if task is not None and task.hub is hub_or_none():
            self._settle(
                HubError(
                    f"the process forked while the coroutine {self.label} ran: the thread it runs "
                    "in is the parent's, and what becomes of it is known there only"
                )
            )


def _label(coroutine: Coroutine[Any, Any, Any]) -> str:
    return getattr(coroutine, "__qualname__", None) or type(coroutine).__name__


_lock = threading.Lock()
_present: _Helper | None = None
_parents: list[_Helper] = []
"""In a child: helpers of the parent. Their event loops must not be closed here, since they share
the kernel's epoll with the parent's."""


def _submit(call: _Call[Any]) -> None:
    global _present
    with _lock:
        if _present is None:
            _present = _Helper()
            _present.launch()
        call.helper = _present
        _present.calls.add(call)
        _present.loop.call_soon_threadsafe(call.begin)


def _after_fork_in_child() -> None:
    global _lock, _present
    _lock = threading.Lock()
    helper, _present = _present, None
    if helper is not None:
        _parents.append(helper)
        for call in list(helper.calls):
            call.lost()


@atexit.register
def _exit() -> None:
    if _present is not None:
        _present.exiting = True
        shut_down()


os.register_at_fork(
    before=lambda: _lock.acquire(),
    after_in_parent=lambda: _lock.release(),
    after_in_child=_after_fork_in_child,
)
