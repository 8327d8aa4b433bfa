"""The counting itself needs valgrind and a minute; here: the program it counts, and the reading."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench import instructions


@pytest.mark.parametrize("work", instructions.WORK)
def test_the_counted_program_serves_itself_and_ends(work: str) -> None:
    command = [sys.executable, "-m", "bench.instructions", work, "--child", "500"]
    command += ["--message", "20", "--read-size", "16" if work != "udp" else "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_count_is_read_from_the_report() -> None:
    assert instructions.collected("==7== Events : Ir\n==7== Collected : 12345\n") == 12345


def test_a_report_without_a_count_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="no such option"):
        instructions.collected("valgrind: no such option")
