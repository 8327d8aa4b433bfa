"""``python -m examples.rwmutex``: its parts, and the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import greenpump as gp
from examples.rwmutex import Routes

ROOT = Path(__file__).parents[2]


def test_a_lookup_sees_all_of_a_change_or_nothing() -> None:
    routes = Routes()
    with gp.Group() as group:
        before = group.spawn(routes.lookup, "shop")
        gp.yield_now()
        group.spawn(routes.rename)
        after = group.spawn(routes.lookup, "shop")
    assert (before.result(), after.result()) == ("10.0.0.0", "10.0.0.1")


def test_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.rwmutex"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "addresses seen: 10.0.0.0, 10.0.0.1, 10.0.0.2, 10.0.0.3",
        "lookups at once: 25",
    ]
    assert done.stderr == ""
