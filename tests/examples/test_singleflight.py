"""``python -m examples.singleflight``: its parts, and the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import greenpump as gp
from examples.singleflight import Profiles, impatient
from greenpump.testing import virtual_clock

ROOT = Path(__file__).parents[2]


@virtual_clock()
def test_one_load_for_all_who_ask_whoever_leaves() -> None:
    profiles = Profiles()
    hasty = gp.spawn(impatient, profiles, "alice")
    tasks = [gp.spawn(profiles.get, "alice") for _ in range(20)]
    assert hasty.result() == "no time"
    assert {task.result() for task in tasks} == {"profile of alice"}
    assert profiles.get("alice") == "profile of alice"
    assert profiles.loads == 1


def test_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.singleflight"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "the first to ask for alice: no time",
        "60 answers, 3 different ones, 3 loads",
    ]
    assert done.stderr == ""
