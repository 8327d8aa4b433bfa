"""More connections than a process may have fds for, spread over several."""

from __future__ import annotations

from itertools import pairwise

IN_A_PROCESS = 18_000  # what fits under a hard limit of 20,000 fds


def shares(count: int, processes: int = 0) -> list[int]:
    """`count` in so many equal parts; in as few as can be, if the number isn't given."""
    processes = processes or -(-count // IN_A_PROCESS)
    ends = [count * number // processes for number in range(processes + 1)]
    return [end - start for start, end in pairwise(ends)]
