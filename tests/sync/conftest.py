"""What tests of the synchronisation primitives share: a hub of their own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from greenpump.hub.deadlock import wakes_nobody
from greenpump.hub.hub import Hub
from greenpump.hub.local import hub_or_none, this_hub


@pytest.fixture(autouse=True)
def hub() -> Iterator[Hub]:
    """A hub made for this test; no task may outlive the test."""
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
