"""Tests that neither sleep nor guess: a virtual clock, and "everybody waits now".

    @virtual_clock()
    def test_the_server_gives_up_after_30_seconds():
        ...                      # half a minute of waiting takes no time

    spawn(server)
    wait_all_parked()            # it stands in accept now
    client.connect(...)

The virtual clock belongs to the calling thread's hub. It stands still while tasks run, and
*jumps* to the next deadline when nothing can happen before it: no task is ready, the kernel has no
event, no other thread has posted anything. So code sees exactly the times that it asked for, in
order.

What it waits for before it jumps
---------------------------------
* Events that are ready in the kernel come first: a socket with data is read at the present time.
  While tasks wait on fds, the kernel is given ``GRACE_MS`` of real time to deliver what was sent
  over loopback (which it nearly always does before ``send`` returns).
* Outstanding offloaded calls (``hub.externals``): their real end is waited for.
* Nothing else. Other threads and other hubs live in real time, and whether one of them is about to
  wake this hub can't be known. Where a test waits for one, ``with clock.held():`` stops the jumps.

Rejected: patching ``time`` (the hub takes its time from one place, and user code that reads real
time should get it); a speed-up factor (races stay, and tests still take time); one clock for all
hubs (threads make no deterministic order of two jumps).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .hub.deadlock import fd_waiters
from .hub.hub import PATIENCE_MS
from .hub.local import this_hub
from .hub.timers import FAR

if TYPE_CHECKING:
    from .hub.hub import Hub
    from .hub.task import Task

__all__ = ["VirtualClock", "virtual_clock", "wait_all_parked"]

GRACE_MS = 1


class VirtualClock:
    """The time of one hub's tests. Made by ``virtual_clock``.

    It starts at the real clock's present time, so deadlines set before keep their meaning.
    """

    __slots__ = ("_hub", "_now")

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._now = hub.now = hub.timers.clock()

    def now(self) -> float:
        """The time in seconds, on the scale of ``time.monotonic``. Doesn't park."""
        return self._now / 1e9

    def advance(self, seconds: float) -> None:
        """Move the clock by ``seconds``, as if the running task had computed for so long.

        Doesn't park: deadlines that pass are looked at when the task next does. (To let the others
        run meanwhile, ``sleep``.) Raises ValueError for a negative number, NaN or infinity.
        """
        deadline = self._hub.timers.after(seconds)
        if deadline == FAR:
            raise ValueError(f"the clock can't be moved by {seconds!r} s")
        self._now = self._hub.now = deadline
        if self._hub.timers.next_deadline() <= deadline:
            self._hub.ready.append(self._hub.root_task)

    @contextmanager
    def held(self) -> Iterator[None]:
        """``with clock.held():`` no jumps: what the block waits for comes from another thread.

        It holds for all tasks of the hub. As with the real clock, nothing times out meanwhile
        unless somebody advances the clock.
        """
        self._hub.externals += 1
        try:
            yield
        finally:
            self._hub.externals -= 1

    def _read(self) -> int:
        return self._now

    def _jump(self) -> bool:
        """The hub has nothing to do and saw no event: on to the next deadline (hub.autojump)."""
        hub = self._hub
        if hub.externals:
            return False
        deadline = hub.timers.next_deadline()
        if deadline == FAR:
            return False
        if fd_waiters(hub):
            events = hub.epoll.poll(GRACE_MS)
            if events:
                hub.deliver(events)
                return True
        if hub.inbox:
            return True
        if deadline > self._now:
            self._now = hub.now = deadline
        return True


@contextmanager
def virtual_clock() -> Iterator[VirtualClock]:
    """``with virtual_clock() as clock:`` this thread's hub lives in virtual time; see the module.

    Also a decorator: ``@virtual_clock()`` above a test. On leaving, real time is back at once; a
    task that still sleeps goes on until the *real* clock shows its deadline, so end those before.
    A clock can't run inside another: RuntimeError. Source: trio.testing.MockClock, Go's synctest.
    """
    hub = this_hub()
    if hub.autojump is not None:
        raise RuntimeError("this thread's hub has a virtual clock already")
    clock = VirtualClock(hub)
    real = hub.timers.clock
    hub.timers.use_clock(clock._read, alarm=False)
    hub.autojump = clock._jump
    hub.patience = hub.idle_ms = 0
    try:
        yield clock
    finally:
        hub.autojump = None
        hub.timers.use_clock(real, alarm=True)
        hub.now = real()
        _be_patient(hub)


class _AllParked:
    """The wait for everybody else's."""

    __slots__ = ("hub",)

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def abandon(self, task: Task[Any]) -> bool:
        try:
            self.hub.watchers.remove(task)
        except ValueError:
            return False
        return True

    def reason(self, task: Task[Any]) -> str:
        return "wait_all_parked"


def wait_all_parked() -> None:
    """Park until every other task of this hub is parked and nothing that could ready one is due.

    "Due" is what the kernel has ready and what other threads have posted; a deadline that lies
    ahead is not, so with a virtual clock this returns before the clock jumps. While tasks wait on
    fds the kernel gets ``GRACE_MS`` to deliver. Tasks that wait for an offloaded call are parked.
    Several tasks that wait here are served in turn, each as if it alone did: the one that is
    resumed first makes the others wait until it parks again.

    Raises Cancelled. Source: trio.testing.wait_all_tasks_blocked, Go's synctest.Wait.
    """
    hub = this_hub()
    task = hub.prepare()
    hub.patience = hub.idle_ms = GRACE_MS if fd_waiters(hub) else 0
    hub.watchers.append(task)
    try:
        hub.wait(task, _AllParked(hub))
    finally:
        _be_patient(hub)


def _be_patient(hub: Hub) -> None:
    """Set how long the hub's next sleep may last before it asks itself why."""
    if hub.autojump is None and not hub.watchers:
        hub.patience = hub.idle_ms = PATIENCE_MS
    else:
        hub.patience = hub.idle_ms = 0
