"""``python -m examples.signals``: as it is, and signalled from outside."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What a shell starts in the background would inherit a SIGINT that is ignored.
COMMAND = ["env", "--default-signal=INT", sys.executable, "-m", "examples.signals"]


def test_the_program() -> None:
    done = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.splitlines()[1:] == [
        "reloading the configuration",
        "some jobs done",
        "ended in order",
    ]


def test_signals_from_outside() -> None:
    child = subprocess.Popen(
        [*COMMAND, "3000"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == f"serving as process {child.pid}\n"
        child.send_signal(signal.SIGHUP)
        assert child.stdout.readline() == "reloading the configuration\n"
        child.send_signal(signal.SIGTERM)
        assert child.stdout.read() == "ended in order\n"
    assert child.returncode == 0


def test_ctrl_c_ends_it_as_ever() -> None:
    child = subprocess.Popen(
        [*COMMAND, "3000"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in child.stderr.read()
    assert child.returncode == -signal.SIGINT
