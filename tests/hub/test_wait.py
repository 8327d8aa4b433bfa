"""A wait ends in exactly one way: by its event, its deadline, or a cancel."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.hub.local import this_hub
from greenpump.hub.task import Task
from greenpump.hub.timers import FAR
from greenpump.hub.wait import SLEEP, wake
from greenpump.testing import virtual_clock, wait_all_parked


class Place:
    """Where tasks wait for a token, first come first served; usable by any thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.tasks: list[Task[Any]] = []

    def wait(self, seconds: float | None = None) -> bool:
        hub = this_hub()
        task = hub.prepare()
        deadline = FAR if seconds is None else hub.timers.after(seconds)
        with self.lock:
            self.tasks.append(task)
        return hub.wait(task, self, deadline)

    def claim(self) -> Task[Any]:
        with self.lock:
            return self.tasks.pop(0)

    def abandon(self, task: Task[Any]) -> bool:
        with self.lock:
            if task not in self.tasks:
                return False
            self.tasks.remove(task)
            return True

    def reason(self, task: Task[Any]) -> str:
        return "a token"


def test_by_its_event() -> None:
    place = Place()
    task = gp.spawn(place.wait, 5)
    wait_all_parked()
    assert task.state() == "a token"
    claimed = place.claim()
    assert claimed is task
    wake(claimed)
    assert task.state() == "ready"
    assert task.result() is True


def test_by_its_deadline() -> None:
    with virtual_clock():
        place = Place()
        assert place.wait(5) is False
        assert place.tasks == []


@pytest.mark.parametrize("end", ["cancel", "deadline"])
def test_the_event_wins_once_it_has_claimed_the_task(end: str) -> None:
    with virtual_clock() as clock:
        place = Place()
        ends: list[bool | None] = []

        def body() -> None:
            ends.append(place.wait(5))
            gp.yield_now()
            ends.append(None)

        task = gp.spawn(body)
        wait_all_parked()
        claimed = place.claim()  # another thread could be here now
        if end == "cancel":
            task.cancel()
            assert task.wait is place
        else:
            clock.advance(10)
            gp.yield_now()
            gp.yield_now()
            assert ends == []
        wake(claimed)
        task.join()
        assert ends == ([True] if end == "cancel" else [True, None])


def test_woken_by_another_thread() -> None:
    place = Place()

    def waker() -> None:
        for _ in range(200):
            while not place.tasks:
                pass
            wake(place.claim())

    thread = threading.Thread(target=waker)
    thread.start()
    for _ in range(200):
        assert place.wait() is True
        assert gp.current().wait is None
    thread.join()


def test_wait_leaves_the_task_clean(hub: Hub) -> None:
    place = Place()
    main = hub.main
    with virtual_clock():
        assert place.wait(1) is False
        with pytest.raises(TimeoutError), gp.timeout(1):
            place.wait()
        with pytest.raises(TimeoutError), gp.timeout(1):
            place.wait(5)
    assert main.wait is None
    assert main.trouble is None
    assert main.deadline == FAR
    assert not hub.ready


def test_the_reason_of_a_sleep() -> None:
    assert SLEEP.reason(gp.current()) == "sleep"
