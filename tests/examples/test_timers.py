"""``python -m examples.timers``: its parts, and the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import greenpump as gp
from examples.timers import talk, watch
from greenpump.testing import virtual_clock

ROOT = Path(__file__).parents[2]


@virtual_clock()
def test_the_idle_limit_counts_from_the_last_message() -> None:
    messages = gp.Channel[str]()
    gp.spawn(talk, messages, [0.03, 0.1, 0.1])
    log = watch(messages)
    assert [line for line in log if line != "heartbeat"] == [
        "message 0",
        "message 1",
        "message 2",
        "closed",
    ]
    assert log.count("heartbeat") == 7  # up to 0.35


def test_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.timers"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert "(the server says: one connection is open)" in lines
    assert "heartbeat" in lines
    assert lines[-1] == "closed"
    assert done.stderr == ""
