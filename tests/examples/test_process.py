"""``python -m examples.process``: its parts, and the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import greenpump as gp
from examples.process import Calculator, check

ROOT = Path(__file__).parents[2]


def test_each_command_has_its_verdict() -> None:
    commands = ["echo out; echo err >&2", "exit 1", "sleep 1000", "true"]
    assert check(commands, limit=2, seconds=0.3) == {
        commands[0]: "out\nerr",
        commands[1]: "failed",
        commands[2]: "too slow",
        commands[3]: "",
    }


def test_two_calculate_at_once() -> None:
    with Calculator() as one, Calculator() as two:
        tasks = [gp.spawn(each.ask, "6 * 7") for each in (one, two)]
        assert [task.result(50) for task in tasks] == ["42", "42"]
        assert one.ask("'x' * 3") == "xxx"


def test_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.process"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["echo", "hello", "hello"],
        ["sleep", "0.2;", "echo", "later", "later"],
        ["exit", "3", "failed"],
        ["sleep", "1000", "too", "slow"],
        ["6", "*", "7", "=", "42"],
        ["2", "**", "64", "=", str(2**64)],
    ]
