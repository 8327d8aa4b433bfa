"""``python -m examples.pool``: ports that are open, and no more than enough."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import greenpump as gp
from examples.pool import open_ports
from greenpump.testing import wait_all_parked

ROOT = Path(__file__).parents[2]


@pytest.fixture
def listeners() -> Iterator[list[int]]:
    """The ports of two listeners."""
    with gp.listen(("127.0.0.1", 0)) as one, gp.listen(("127.0.0.1", 0)) as two:
        yield [one.getsockname()[1], two.getsockname()[1]]


def closed_port() -> int:
    with gp.listen(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_open_ones_are_found(listeners: list[int]) -> None:
    ports = [closed_port(), *listeners, closed_port()]
    assert sorted(open_ports("127.0.0.1", ports)) == sorted(listeners)


def test_enough_is_enough(listeners: list[int]) -> None:
    assert len(list(open_ports("127.0.0.1", listeners * 100, enough=5))) == 5
    wait_all_parked()
    assert gp.hubs()[0].live_tasks() == []


def test_the_program(listeners: list[int]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.pool", "127.0.0.1", f"{listeners[0]}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stdout == f"127.0.0.1:{listeners[0]} is open\n"
