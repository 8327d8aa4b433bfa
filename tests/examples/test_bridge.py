"""``python -m examples.bridge``: each side gets the other's results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.bridge"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert [line.rpartition(": ")[2] for line in done.stdout.splitlines()] == [
        "3",
        "999000",
        "8",
        "42",
    ]
