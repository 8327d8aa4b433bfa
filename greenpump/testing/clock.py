"""A clock for tests that don't sleep: it jumps to the next deadline when nothing else can happen.

    @virtual_clock()
    def test_the_server_gives_up_after_30_seconds():
        ...                      # half a minute of waiting takes no time

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
from typing import TYPE_CHECKING

from ..hub.deadlock import fd_waiters
from ..hub.local import this_hub
from ..hub.timers import FAR
from .parked import GRACE_MS, be_patient

if TYPE_CHECKING:
    from ..hub.hub import Hub


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
        hub.timers.use_clock(real, alarm=not hub.closed)  # ``run`` inside the block has closed it
        hub.now = real()
        be_patient(hub)
