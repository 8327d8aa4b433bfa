from __future__ import annotations

import dataclasses
import json
import threading

import greenpump as gp
from greenpump.debug.stats import HubStats, Stats, stats
from greenpump.hub.local import this_hub


def mine(found: Stats) -> HubStats:
    [one] = [hub for hub in found.hubs if hub.thread == threading.current_thread().name]
    return one


def test_it_counts_what_a_hub_has() -> None:
    this_hub()
    before = mine(stats())
    a, b = gp.socketpair()
    with a, b:
        reader = gp.spawn(a.recv, 1)
        sleeper = gp.spawn(gp.sleep, 1000)
        gp.yield_now()
        fresh = gp.spawn(int)
        now = mine(stats())
        assert now.tasks - before.tasks == 3
        assert now.parked - before.parked == 2
        assert now.unstarted - before.unstarted == 1
        assert (now.running, now.ready, now.sleeping) == (1, 0, False)
        assert now.timers - before.timers == 1
        assert now.fds - before.fds == 1
        assert now.load >= 2
        b.send(b"x")
        assert reader.result() == b"x"
        fresh.join()
        sleeper.cancel()
        sleeper.join()
    after = mine(stats())
    assert (after.tasks, after.parked, after.unstarted) == (1, 0, 0)
    assert (after.timers, after.fds) == (before.timers, before.fds)
    assert after.workers == after.idle_workers
    assert after.polls > before.polls
    assert after.charged > before.charged
    assert after.events > before.events


def test_a_started_task_in_the_run_queue_is_ready() -> None:
    yielder = gp.spawn(gp.yield_now)
    gp.yield_now()
    assert mine(stats()).ready == 1
    yielder.join()
    assert mine(stats()).ready == 0


def test_a_detached_connection_is_no_task() -> None:
    a, b = gp.socketpair()
    with a, b:
        detach(b)
        now = mine(stats())
        assert (now.detached, now.tasks, now.parked) == (1, 1, 0)
        attach(b)
        assert mine(stats()).detached == 0


def detach(conn: gp.Socket) -> None:
    """As ``detach_until_readable``: the reader is a task that has not started."""
    hub = this_hub()
    conn._pollable.register(hub)
    conn._pollable.reader = gp.spawn(int)
    hub.ready.remove(conn._pollable.reader)


def attach(conn: gp.Socket) -> None:
    task, conn._pollable.reader = conn._pollable.reader, None
    assert task is not None
    this_hub().ready.append(task)
    task.join()


def test_all_hubs_are_counted_from_any_thread() -> None:
    parked, go_on = threading.Event(), threading.Event()

    def other() -> None:
        sleepers = [gp.spawn(gp.sleep, 1000) for _ in range(3)]
        gp.yield_now()
        parked.set()
        go_on.wait(30)
        for sleeper in sleepers:
            sleeper.cancel()
            sleeper.join()
        this_hub().close()

    this_hub()
    thread = threading.Thread(target=other, name="other hub")
    thread.start()
    try:
        assert parked.wait(30)
        found = stats()
        [hub] = [hub for hub in found.hubs if hub.thread == "other hub"]
        assert (hub.tasks, hub.parked, hub.timers) == (4, 3, 3)
        assert found.tasks == sum(hub.tasks for hub in found.hubs) >= 5
        assert found.load == sum(hub.load for hub in found.hubs)
    finally:
        go_on.set()
        thread.join()
    assert "other hub" not in [hub.thread for hub in stats().hubs]


def test_it_goes_into_json() -> None:
    this_hub()
    found = json.loads(json.dumps(dataclasses.asdict(stats())))
    assert {"hubs", "tasks", "detached", "fds", "load"} == set(found)
    assert found["hubs"][0]["running"] == 1
