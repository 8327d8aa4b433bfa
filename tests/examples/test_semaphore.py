"""``python -m examples.semaphore``: its parts, and the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import greenpump as gp
from examples.semaphore import Machine
from greenpump.testing import virtual_clock

ROOT = Path(__file__).parents[2]


@virtual_clock()
def test_jobs_start_in_turn_when_there_is_memory() -> None:
    machine = Machine(3)
    with gp.Group() as group:
        for name, megabytes in (("a", 2), ("b", 2), ("c", 1)):
            group.spawn(machine.run, name, megabytes)
    assert machine.log == [
        "a starts with 2 MB",
        "a ends",
        "b starts with 2 MB",
        "c starts with 1 MB",
        "c ends",
        "b ends",
    ]
    assert machine.memory.available == 3


def test_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.semaphore"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "a starts with 60 MB",
        "b starts with 30 MB",
        "b ends",
        "a ends",
        "large starts with 100 MB",
        "large ends",
        "c starts with 10 MB",
        "d starts with 20 MB",
        "c ends",
        "d ends",
    ]
    assert done.stderr == ""
