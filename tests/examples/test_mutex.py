"""``python -m examples.mutex``: its parts, and the whole."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import greenpump as gp
from examples.mutex import ACCOUNTS, START, total_after

ROOT = Path(__file__).parents[2]


def test_without_a_mutex_the_sum_changes_and_with_one_it_stays() -> None:
    assert total_after(500, gp.Mutex()) == ACCOUNTS * START
    assert total_after(500, nullcontext()) != ACCOUNTS * START


def test_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.mutex"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "of 1000, left without a mutex: 1006",
        "of 1000, left with one: 1000",
    ]
    assert done.stderr == ""
