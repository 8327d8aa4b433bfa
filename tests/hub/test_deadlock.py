"""What counts as a hope of being woken. (The report itself is in test_laws.py.)"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub import deadlock
from greenpump.hub.deadlock import Bystander, fd_waiters, wakes_nobody
from greenpump.hub.hub import Hub
from greenpump.hub.pollable import Pollable
from greenpump.testing import wait_all_parked


def test_a_bystander_thread_is_no_hope() -> None:
    go = threading.Event()
    thread = Bystander(target=go.wait)
    thread.start()
    with pytest.raises(gp.Deadlock):
        gp.sleep(float("inf"))
    go.set()
    thread.join()


@pytest.mark.parametrize(
    "handler",
    [signal.SIG_IGN, signal.SIG_DFL, wakes_nobody(lambda signum, frame: None)],
)
def test_handlers_that_wake_nobody(handler: Any) -> None:
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(gp.Deadlock):
            gp.sleep(float("inf"))
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_it_is_found_again(hub: Hub) -> None:
    task = gp.spawn(gp.sleep, float("inf"))
    for _ in range(3):
        with pytest.raises(gp.Deadlock):
            task.join()
    task.cancel()
    task.join()


def test_a_task_that_catches_it_in_main_may_wake_the_others() -> None:
    task = gp.spawn(gp.sleep, float("inf"))
    try:
        task.join()
    except gp.Deadlock:
        task.cancel()
    assert task.join(5)


def test_only_a_parked_main_task_gets_it(hub: Hub) -> None:
    assert deadlock.find(hub) is None


def test_fd_waiters(hub: Hub) -> None:
    assert not fd_waiters(hub)
    left, right = gp.socketpair()
    with left, right:
        pollable: Pollable = left._pollable
        waits: list[Callable[[], object]] = [pollable.wait_read, pollable.wait_read]
        tasks = [gp.spawn(wait) for wait in waits]
        wait_all_parked()
        assert fd_waiters(hub)
        for task in tasks:
            task.cancel()
            task.join()
        assert not fd_waiters(hub)
