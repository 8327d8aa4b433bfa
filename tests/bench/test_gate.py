"""The start line: nobody starts before all have come, and who dies keeps nobody waiting."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bench.gate import VARIABLE, Gate, pass_gate
from bench.outcome import FailedError
from bench.process import ROOT

RUNNER = "from bench.gate import pass_gate; pass_gate(); print('off')"


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as made:
        yield made


def runner(gate: Gate, code: str = RUNNER) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **gate.environment},
        pass_fds=gate.fds,
        stdout=subprocess.PIPE,
        text=True,
    )


def started(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], 0.05)[0])


def test_without_a_gate_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    pass_gate()


def test_all_start_when_the_last_has_come(gate: Gate) -> None:
    with runner(gate) as first, runner(gate) as second:
        assert not started(first)
        gate.open(2, 30)
        assert [each.communicate(timeout=30)[0] for each in (first, second)] == ["off\n", "off\n"]


def test_who_dies_keeps_nobody_waiting(gate: Gate) -> None:
    with runner(gate) as first, runner(gate, "raise SystemExit(3)") as second:
        gate.open(2, 30)
        assert second.wait(30) == 3
        assert first.communicate(timeout=30)[0] == "off\n"


def test_who_does_not_come_is_counted(gate: Gate) -> None:
    with runner(gate, "import signal; signal.pause()") as absent:
        with pytest.raises(FailedError, match=r"0 of 1 processes ready after 0\.05 s"):
            gate.open(1, 0.05)
        absent.kill()
