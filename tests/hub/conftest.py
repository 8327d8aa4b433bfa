"""What tests of the scheduler share: a hub of their own, and programs of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from greenpump.hub.deadlock import wakes_nobody
from greenpump.hub.hub import Hub
from greenpump.hub.local import hub_or_none, this_hub

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def hub() -> Iterator[Hub]:
    """A hub made for this test, in the thread that runs it; no task may outlive the test."""
    before = hub_or_none()
    if before is not None:
        before.close()
    # pytest-timeout's handler of SIGALRM wakes no task: it is no hope in a deadlock.
    handler: Any = signal.getsignal(signal.SIGALRM)
    wakes_nobody(handler)
    hub = this_hub()
    yield hub
    left = [repr(task) for task in hub.live_tasks()]
    now = hub_or_none()
    if now is not None:
        now.close()
    assert left == []


Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def program() -> Program:
    """Run Python source in a process of its own: what it prints, and how it ends."""

    def run(
        source: str, *args: object, timeout: float = 50, flags: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *flags, "-c", textwrap.dedent(source), *map(str, args)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
