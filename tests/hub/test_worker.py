"""Workers: one runs many tasks, and the pool stays within its bound."""

from __future__ import annotations

import pytest
from greenlet import GreenletExit, getcurrent, greenlet

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.hub.worker import Worker
from greenpump.testing import virtual_clock, wait_all_parked


def test_a_worker_that_ended_a_task_takes_the_next_new_one() -> None:
    workers: list[greenlet] = []

    def body() -> None:
        workers.append(getcurrent())

    for _ in range(1000):
        gp.spawn(body)
    wait_all_parked()
    assert len(workers) == 1000
    assert len(set(workers)) == 1


def test_an_idle_worker_is_used_before_one_is_born(hub: Hub) -> None:
    for _ in range(100):
        gp.spawn(gp.yield_now).join()
    assert len(hub.workers) == 1
    assert hub.idle_workers == list(hub.workers)
    worker = hub.idle_workers[0]
    assert worker.task is None


def test_as_many_workers_as_tasks_are_under_way(hub: Hub) -> None:
    with virtual_clock():
        tasks = [gp.spawn(gp.sleep, 1) for _ in range(50)]
        wait_all_parked()
        assert len(hub.workers) == 50
        assert {worker.task for worker in hub.workers} == set(tasks)
        for task in tasks:
            task.join()
        assert len(hub.idle_workers) == len(hub.workers) == 50


@pytest.mark.parametrize("bound", [0, 1, 7])
def test_the_pool_is_bounded(bound: int, hub: Hub) -> None:
    hub.max_idle_workers = bound
    with virtual_clock():
        for _ in range(3):
            tasks = [gp.spawn(gp.sleep, 1) for _ in range(50)]
            for task in tasks:
                task.join()
            assert len(hub.idle_workers) <= bound
            assert len(hub.workers) <= max(bound, 1)


def test_an_error_costs_no_worker(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gp, "excepthook", lambda task, error: None)

    def fail() -> None:
        raise KeyError

    for _ in range(100):
        gp.spawn(fail).join()
    assert len(hub.workers) == 1


def test_a_task_that_raises_greenlet_exit_ends_and_the_hub_goes_on(hub: Hub) -> None:
    def leave() -> None:
        raise GreenletExit

    for _ in range(10):
        task = gp.spawn(leave)
        assert task.join(5) is True
    assert gp.spawn(int).result(5) == 0
    assert all(not worker.dead for worker in hub.workers)


def test_workers_end_with_the_hub(hub: Hub) -> None:
    ended = []

    def parked() -> None:
        try:
            gp.sleep(3600)
        finally:
            ended.append(gp.current())

    tasks = [gp.spawn(parked) for _ in range(5)]
    gp.spawn(int).join()
    workers = list(hub.workers)
    assert len(workers) == 6
    hub.close()
    assert set(ended) == set(tasks)
    assert len(ended) == 5
    assert all(worker.dead for worker in workers)
    assert all(type(worker) is Worker for worker in workers)
