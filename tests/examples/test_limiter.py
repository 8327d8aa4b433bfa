"""``python -m examples.limiter``: its parts, and the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import greenpump as gp
from examples import limiter as example
from greenpump.testing import virtual_clock

ROOT = Path(__file__).parents[2]


def test_the_pages_go_one_by_one_and_those_behind_move_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with virtual_clock() as clock:
        monkeypatch.setattr(example, "monotonic", clock.now)
        start = clock.now()
        fetched = example.fetch_all(gp.RateLimiter(10, burst=3), 7, given_up=4)
        times = [(page, round(when - start, 6)) for page, when in fetched]
    assert times == [(0, 0), (1, 0), (2, 0), (3, 0.1), (5, 0.2), (6, 0.3)]


def test_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.limiter"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    # When each went is the machine's affair here; the test above has a clock of its own.
    lines = done.stdout.splitlines()
    assert [line.partition(": ")[2] for line in lines[:4]] == [f"page {n}" for n in range(4)]
    assert lines[-2] == "one more right now: False"
    assert lines[-1].startswith("two more: in 0.")
    assert done.stderr == ""
