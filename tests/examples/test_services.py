"""``python -m examples.services``: the order of starting, and who is told of a deadline."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import greenpump as gp
from examples.services import Store, ask

ROOT = Path(__file__).parents[2]


def test_it_answers_from_the_start() -> None:
    store = Store()
    with gp.Group() as group:
        address = group.start(store.serve, ("127.0.0.1", 0))
        assert ask(store, address, b"one") == b"1"
        with pytest.raises(OSError, match="another socket listens there"):
            group.start(store.serve, address)
        with pytest.raises(TimeoutError):
            ask(store, address, b"everything")
        assert store.given_up.recv() == b"everything"
        group.cancel()


def test_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.services"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "a second one does not start: EADDRINUSE",
        "one: 1",
        "two: 2",
        "everything: no answer in time",
        "the store gave up 'everything'",
    ]
