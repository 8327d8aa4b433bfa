"""C on libevent (`c/ring_libevent.c`), persistent read events."""

from __future__ import annotations

import os

from bench.build import binary

SCALES_BY = "processes"


def run(pairs: int, active: int, writes: int, warmup: int) -> None:
    program = binary("ring_libevent", ["event_core"], needs="libevent-dev")
    numbers = (pairs, active, writes, warmup)
    os.execv(program, [program.name, *map(str, numbers)])
