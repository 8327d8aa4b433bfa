"""For tests of programs that use greenpump: no sleeping, no guessing, and races that come back.

``virtual_clock`` makes an hour of waiting take no time, ``wait_all_parked`` says when everybody
waits, ``seeded`` has a seed decide who runs next, ``races`` tries one test under many seeds, and
``preemption_point`` is where they may interrupt code that doesn't park. See docs/testing.md.
"""

from .clock import VirtualClock, virtual_clock
from .parked import wait_all_parked
from .races import races
from .seeded import Schedule, preemption_point, seeded

__all__ = [
    "Schedule",
    "VirtualClock",
    "preemption_point",
    "races",
    "seeded",
    "virtual_clock",
    "wait_all_parked",
]
