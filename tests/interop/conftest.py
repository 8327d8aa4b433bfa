"""What tests of the bridges share: a hub of their own, and no thread of asyncio's left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub.deadlock import wakes_nobody
from greenpump.hub.hub import Hub
from greenpump.hub.local import FREE_THREADED, hub_or_none, this_hub
from greenpump.interop import coroutines

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def hub() -> Iterator[Hub]:
    """A hub made for this test; no task may outlive the test."""
    before = hub_or_none()
    if before is not None:
        before.close()
    handler: Any = signal.getsignal(signal.SIGALRM)
    wakes_nobody(handler)  # pytest-timeout's
    hub = this_hub()
    yield hub
    coroutines.shut_down()
    left = [repr(task) for task in hub.live_tasks()]
    now = hub_or_none()
    if now is not None:
        now.close()
    assert left == []


@pytest.fixture
def unhandled(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """The errors that went to ``excepthook``."""
    found: list[BaseException] = []
    monkeypatch.setattr(gp, "excepthook", lambda task, error: found.append(error))
    return found


def settle_references() -> None:
    """Let go what another thread has let go of: without the GIL that is done in time, not at once.

    With the GIL it does nothing, so a cycle of references is found there.
    """
    if FREE_THREADED:
        gc.collect()


class OtherHub:
    """A thread that serves a hub until the test ends."""

    def __init__(self) -> None:
        up = threading.Event()
        self.leave = gp.Event()

        def serve() -> None:
            self.hub = this_hub()
            up.set()
            self.leave.wait()

        self.thread = threading.Thread(target=serve)
        self.thread.start()
        up.wait()

    def end(self) -> None:
        """End the thread, and with it the hub."""
        self.leave.set()
        self.thread.join()


@pytest.fixture
def other(hub: Hub) -> Iterator[OtherHub]:
    """Another thread's hub."""
    other = OtherHub()
    yield other
    other.end()


@pytest.fixture
def in_thread() -> Callable[[Callable[[], object]], Any]:
    """Call a function in a thread that has no hub; what it returned, or its error, raised."""

    def call(fn: Callable[[], object]) -> object:
        found: list[Any] = []

        def body() -> None:
            try:
                found.append((True, fn()))
            except BaseException as error:
                found.append((False, error))

        thread = threading.Thread(target=body)
        thread.start()
        while thread.is_alive():
            gp.sleep(0.001)  # the tasks of this hub go on
        thread.join()
        good, value = found.pop()
        if not good:
            raise value
        return value

    return call


@pytest.fixture
def program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program of its own to its end."""

    def run(source: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-X", "dev", "-c", textwrap.dedent(source)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=50,
        )

    return run
