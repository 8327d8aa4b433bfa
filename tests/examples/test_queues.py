"""``python -m examples.queues``: its parts, and the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from examples.queues import Job, a_day
from greenpump.testing import virtual_clock

ROOT = Path(__file__).parents[2]


@virtual_clock()
def test_the_most_urgent_is_printed_first_and_who_comes_late_is_sent_away() -> None:
    jobs = [Job(3, "c", 1), Job(2, "b", 1), Job(1, "a", 1), Job(4, "d", 1), Job(0, "z", 9)]
    printed, sent_away = a_day(jobs, [Job(0, "late", 1)], printers=1)
    assert printed == ["a", "z", "b", "c", "d"]
    assert sent_away == ["late"]


def test_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.queues"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    printed, _, late = done.stdout.partition("too late:\n")
    titles = [line.strip() for line in printed.splitlines()[1:]]
    assert titles[:2] == ["ticket", "menu"]
    assert sorted(titles) == ["menu", "novel", "passport", "poster", "thesis", "ticket"]
    assert late.strip() == "tax return"
    assert done.stderr == ""
