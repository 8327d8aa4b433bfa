from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    """What the example prints, by the titles of its parts."""
    done = subprocess.run(
        [sys.executable, "-m", "examples.debugging"],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    parts = [part.partition("\n") for part in done.stdout.split("--- ")[1:]]
    return {title: text for title, _, text in parts}


def test_the_watchdog_names_the_hog(printed: dict[str, str]) -> None:
    text = printed["the watchdog's report"]
    assert text.startswith("task compute#")
    assert "has held the hub of MainThread" in text
    assert "in compute\n    sum(range(10_000))" in text


def test_the_dump_says_who_waits_for_what(printed: dict[str, str]) -> None:
    text = printed["dump"]
    assert "task main of MainThread: running" in text
    assert text.count(": join of task wait_for#") == 2
    assert ": read on fd " in text
    assert "while data := conn.recv(4096):" in text


def test_the_stats_count_them(printed: dict[str, str]) -> None:
    assert "tasks=4, running=1, ready=0, parked=3, unstarted=0" in printed["stats"]


def test_the_deadlock_report_shows_the_ring(printed: dict[str, str]) -> None:
    text = printed["the deadlock report, once nothing is left that could wake anybody"]
    assert text.startswith("all tasks are asleep and nothing can wake them")
    assert text.count(": join of task wait_for#") == 3
