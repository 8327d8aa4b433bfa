"""Hub: its life, and what it answers those who look at it. (Its laws are in test_laws.py.)"""

from __future__ import annotations

import os
import threading

import pytest

import greenpump as gp
from greenpump.hub.hub import Hub, live_fds
from greenpump.hub.local import hub_or_none, this_hub
from greenpump.hub.pollable import NO, Pollable
from greenpump.hub.wait import wake
from greenpump.testing import virtual_clock, wait_all_parked


def fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_closing_gives_everything_back(hub: Hub) -> None:
    hub.close()
    before = fds()
    made = this_hub()
    assert live_fds() == made.fds()
    gp.spawn(gp.sleep, 1e-4).join()
    assert len(fds()) > len(before)
    made.close()
    made.close()
    assert fds() == before
    assert live_fds() == set()
    assert hub_or_none() is None


def test_after_closing_a_new_hub_appears(hub: Hub) -> None:
    hub.close()
    task = gp.spawn(int)
    assert task.hub is not hub
    assert task.result(5) == 0
    with pytest.raises(gp.HubError, match="has ended"):
        gp.spawn_on(hub, int)


def test_after_run_too() -> None:
    assert gp.run(lambda: gp.spawn(int).result()) == 0
    assert gp.spawn(int).result(5) == 0
    assert gp.run(lambda: gp.spawn(int).result()) == 0


def test_a_task_that_parks_while_its_hub_closes_does_no_harm(hub: Hub) -> None:
    said: list[str] = []

    def stubborn() -> None:
        try:
            gp.sleep(3600)
        finally:
            try:
                gp.sleep(1)
            except gp.HubError as error:
                said.append(str(error))

    gp.spawn(stubborn)
    gp.yield_now()
    hub.close()
    assert len(said) == 1
    assert "has ended" in said[0]
    assert gp.spawn(int).result(5) == 0


def test_live_tasks(hub: Hub) -> None:
    assert hub.live_tasks() == []
    with virtual_clock():
        parked = gp.spawn(gp.sleep, 1)
        wait_all_parked()
        fresh = gp.spawn(int)
        later = gp.spawn_later(0.5, int)
        assert set(hub.live_tasks()) == {parked, fresh, later}
        parked.join()
        assert hub.live_tasks() == []


def test_load(hub: Hub) -> None:
    assert hub.load() == 1
    for n in range(5):
        gp.spawn(int)
        assert hub.load() == 2 + n
    wait_all_parked()
    assert hub.load() == 1


def test_the_table_grows(hub: Hub) -> None:
    left, right = gp.socketpair()
    with left, right:
        number = 3000
        os.dup2(left.fileno(), number)
        pollable = Pollable(number)
        pollable.readable = NO
        task = gp.spawn(pollable.wait_read)
        wait_all_parked()
        right.send(b"x")
        assert task.join(5)
        pollable.close()
        os.close(number)


def test_fifty_thousand_posts_all_arrive(hub: Hub) -> None:
    # Two threads against one hub that keeps falling asleep: no wake-up is lost.
    arrived = [0]

    def poster() -> None:
        for _ in range(25_000):
            hub.post(arrive)

    def arrive() -> None:
        arrived[0] += 1

    threads = [threading.Thread(target=poster) for _ in range(2)]
    for thread in threads:
        thread.start()
    while arrived[0] < 50_000:
        gp.sleep(1e-4)
    for thread in threads:
        thread.join()
    assert arrived[0] == 50_000


def test_ping_pong_between_two_hubs(hub: Hub) -> None:
    rounds = 3000
    turns: list[int] = []

    class Ball:
        def __init__(self) -> None:
            self.waiting: gp.Task[object] | None = None
            self.lock = threading.Lock()
            self.thrown = False

        def catch(self) -> None:
            mine = this_hub()
            task = mine.prepare()
            with self.lock:
                if self.thrown:
                    self.thrown = False
                    return
                self.waiting = task
            mine.wait(task, self)

        def throw(self) -> None:
            with self.lock:
                task, self.waiting = self.waiting, None
                if task is None:
                    self.thrown = True
                    return
            wake(task)

        def abandon(self, task: gp.Task[object]) -> bool:
            return False

        def reason(self, task: gp.Task[object]) -> str:
            return "the ball"

    ping, pong = Ball(), Ball()

    def other() -> None:
        for _ in range(rounds):
            ping.catch()
            pong.throw()
        this_hub().close()

    thread = threading.Thread(target=other)
    thread.start()
    for n in range(rounds):
        ping.throw()
        pong.catch()
        turns.append(n)
    thread.join()
    assert len(turns) == rounds
