"""What the operating system knows about a process: CPU time, memory, open files.

CPU time is the process clock (`clock_getcpuclockid`): nanoseconds the scheduler gave to all threads
of the process, user and kernel. The scheduler's clock is finer than `utime`/`stime` (ticks) and,
unlike `/proc/<pid>/schedstat`, up to date while the process runs and complete after a thread ended.

What it can't tell apart: interrupt work. Most kernels charge it to whoever was running (those with
IRQ_TIME_ACCOUNTING to nobody), and on loopback the sender of a packet also runs the receiver's half
of TCP: each side pays for what the *other* one receives. That is the same for every peer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

_CPUCLOCK_SCHED = 2  # <linux/posix-timers.h>: the scheduler's clock of a whole process


def cpu_ns(pid: int) -> int:
    """CPU time another process has used so far (the kernel's encoding of `clock_getcpuclockid`)."""
    return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)


def rss_bytes(pid: int | str = "self") -> int:
    """Resident memory now. smaps_rollup counts pages; statm's counters lag behind by batches."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/{pid}/smaps_rollup has no Rss line")


def family(pid: int) -> list[int]:
    """The process, its children, theirs, and so on."""
    children = [
        int(child)
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for child in path.read_text().split()
    ]
    return [pid, *(each for child in children for each in family(child))]


def open_fds(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


class Stopwatch:
    """CPU and wall time of this very process between `start` and `stop`."""

    def start(self) -> None:
        self._wall = time.monotonic_ns()
        self._cpu = time.process_time_ns()

    def stop(self, events: int) -> dict[str, float]:
        """Microseconds for each of `events` things done since `start`."""
        cpu = time.process_time_ns() - self._cpu
        wall = time.monotonic_ns() - self._wall
        return {"events": events, "cpu_us": cpu / 1e3 / events, "wall_us": wall / 1e3 / events}


def timed_twice(work: Callable[[int], object], count: int) -> dict[str, float]:
    """What each of `count` costs in `work(count)`: the second time, when all is warm."""
    work(count)
    watch = Stopwatch()
    watch.start()
    work(count)
    return watch.stop(count)


async def async_timed_twice(
    work: Callable[[int], Awaitable[object]], count: int
) -> dict[str, float]:
    await work(count)
    watch = Stopwatch()
    watch.start()
    await work(count)
    return watch.stop(count)
