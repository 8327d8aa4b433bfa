"""``python -m examples.races``: the race is found, comes back, and is gone once mended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples.races import Careful, Careless, evening, first_failure

ROOT = Path(__file__).parents[2]


def test_in_the_usual_order_nobody_notices() -> None:
    for office in (Careless, Careful):
        evening(office(3))


def test_it_is_found_and_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GREENPUMP_SEED", raising=False)
    assert "sold of 3" in str(first_failure(Careless))
    assert first_failure(Careful) is None


def test_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.races"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    first, found, seed, *again, last = done.stdout.splitlines()
    assert first.endswith("fine")
    assert found.startswith("200 seeds: ")
    assert seed.startswith("seed ")
    assert len(again) == 3
    assert len({line.removeprefix("again: ") for line in again}) == 1
    assert last == "mended: fine under every seed"
