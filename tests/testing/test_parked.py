"""wait_all_parked: it returns when nothing is ready and nothing that could ready a task is due."""

from __future__ import annotations

import socket

import pytest

import greenpump as gp
from greenpump.hub.hub import PATIENCE_MS
from greenpump.hub.local import this_hub
from greenpump.hub.pollable import Pollable
from greenpump.testing import virtual_clock, wait_all_parked


def test_wait_all_parked_returns_at_once_when_alone() -> None:
    polls = this_hub().polls
    wait_all_parked()
    assert this_hub().polls - polls <= 1


def test_wait_all_parked_lets_a_chain_of_tasks_come_to_rest() -> None:
    steps = []

    def chain(n: int) -> None:
        steps.append(n)
        for _ in range(3):
            gp.yield_now()
        if n:
            gp.spawn(chain, n - 1)

    gp.spawn(chain, 50)
    wait_all_parked()
    assert steps == list(range(50, -1, -1))


def test_wait_all_parked_comes_before_the_jump() -> None:
    with virtual_clock() as clock:
        before = clock.now()
        task = gp.spawn(gp.sleep, 1)
        wait_all_parked()
        assert clock.now() == before
        assert not task.done
        task.join()


def test_wait_all_parked_waits_for_data_that_is_there() -> None:
    left, right = socket.socketpair()
    pollable = Pollable(left.fileno())
    got: list[bytes] = []

    def reader() -> None:
        while len(got) < 100:
            pollable.readable = 0
            pollable.wait_read()
            got.append(left.recv(1))
            if len(got) < 100:
                right.send(b"x")

    with left, right:
        task = gp.spawn(reader)
        wait_all_parked()
        assert got == []
        right.send(b"x")
        wait_all_parked()
        assert len(got) == 100
        assert task.done
        pollable.close()


def test_several_that_wait_for_all_parked_are_served_in_turn() -> None:
    order = []

    def waiter(name: str) -> None:
        wait_all_parked()
        order.append(name)
        gp.yield_now()
        order.append(name)

    tasks = [gp.spawn(waiter, name) for name in "ab"]
    wait_all_parked()
    for task in tasks:
        task.join()
    assert order == ["a", "a", "b", "b"]
    assert this_hub().patience == PATIENCE_MS


def test_wait_all_parked_can_be_cancelled_and_leaves_nothing() -> None:
    def impatient() -> None:
        wait_all_parked()

    def yielder() -> None:
        for _ in range(100):
            gp.yield_now()

    busy = gp.spawn(yielder)
    task = gp.spawn(impatient)
    gp.yield_now()
    task.cancel()
    task.join()
    assert task.cancelled
    assert not this_hub().watchers
    assert this_hub().patience == PATIENCE_MS
    busy.join()
    with pytest.raises(TimeoutError), virtual_clock(), gp.timeout(0):
        wait_all_parked()
    assert not this_hub().watchers
