"""``python -m examples.files`` beside wc(1)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = [sys.executable, "-m", "examples.files"]


def said(command: list[str], stdin: bytes = b"") -> tuple[list[list[str]], int]:
    done = subprocess.run(
        command,
        cwd=ROOT,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=50,
    )
    return [line.split() for line in done.stdout.decode().splitlines()], done.returncode


@pytest.mark.parametrize("paths", [["README.md"], ["README.md", "LICENSE", "greenpump/errors.py"]])
def test_files(paths: list[str]) -> None:
    assert said([*OURS, *paths]) == said(["wc", *paths])


def test_standard_input() -> None:
    text = b"one two\nthree\n\nlast line has no end"
    assert said(OURS, text) == said(["wc"], text)


def test_one_that_is_not_there() -> None:
    assert said([*OURS, "README.md", "nosuchfile"]) == said(["wc", "README.md", "nosuchfile"])
