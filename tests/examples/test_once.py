"""``python -m examples.once``: its parts, and the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from examples import once

ROOT = Path(__file__).parents[2]


def test_a_request_has_the_one_connection() -> None:
    first, second = once.request(1), once.request(2)
    assert first.removeprefix("request 1") == second.removeprefix("request 2")
    assert once.greeting.done()


def test_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.once"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "the first request has come",
        "request 1 by connection 2",
        "request 2 by connection 2",
        "request 3 by connection 2",
        "settings: Expecting property name enclosed in double quotes",
        "settings: Expecting property name enclosed in double quotes",
    ]
    assert done.stderr == ""
