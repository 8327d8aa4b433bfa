"""What tests of sockets share: a hub of their own, whose registrations and timers are counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from greenpump.hub.hub import Hub
from greenpump.hub.local import hub_or_none, this_hub
from greenpump.hub.pollable import NO_HUB, QUOTA, VACANT
from greenpump.hub.timers import FAR


def registrations(hub: Hub) -> list[int]:
    """The fds that are registered with a hub, its own left out."""
    return [
        fd
        for fd, pollable in enumerate(hub.table)
        if pollable is not VACANT and pollable not in hub.wakeups
    ]


@pytest.fixture(autouse=True)
def hub() -> Iterator[Hub]:
    """A hub made for this test; no task, registration or deadline may outlive the test."""
    before = hub_or_none()
    if before is not None:
        before.close()
    hub = this_hub()
    # Sockets that never had to wait share a quota; when it is used up, one of them yields its turn.
    NO_HUB.quota = QUOTA
    yield hub
    left = [repr(task) for task in hub.live_tasks()]
    registered = [] if hub.closed else registrations(hub)  # a closed hub's are gone with its epoll
    deadline = hub.timers.next_deadline()
    now = hub_or_none()
    if now is not None:
        now.close()
    assert (left, registered, deadline) == ([], [], FAR)
