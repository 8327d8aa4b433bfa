"""Group.start, pools and after_cancel under hundreds of seeds: as test_races.py."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub.local import this_hub
from greenpump.sync.context import after_cancel
from greenpump.sync.pool import imap, imap_unordered
from greenpump.testing import preemption_point, races

SEEDS = 300


def some_time() -> float:
    """One of few times, so that deadlines meet each other and what happens meanwhile."""
    return random.randrange(1, 4) / 1000


class Boom(Exception):
    pass


@races(seeds=SEEDS)
def test_start_returns_when_the_task_is_ready_and_never_loses_its_end() -> None:
    ended: list[int] = []
    begun: list[int] = []

    def serve(who: int, task_status: Any) -> None:
        begun.append(who)
        try:
            gp.sleep(some_time())
            if random.random() < 0.2:
                raise Boom(who)
            task_status.started(who)
            gp.sleep(random.choice([0, some_time()]))
        finally:
            with gp.shield():
                gp.sleep(random.choice([0, some_time()]))
            ended.append(who)

    def starter(group: gp.Group, who: int) -> None:
        with gp.move_on_after(random.choice([None, some_time()])):
            try:
                assert group.start(serve, who) == who
                outcomes[who] = "ready"
            except Boom:
                outcomes[who] = "failed"
        if who not in outcomes:
            outcomes[who] = "cancelled"
            assert begun.count(who) == ended.count(who), (
                "start waits for the end of what it cancels"
            )

    outcomes: dict[int, str] = {}
    with gp.Group() as group:
        tasks = [gp.spawn(starter, group, who) for who in range(4)]
        for task in tasks:
            task.result()
    assert set(outcomes) == set(range(4))
    assert sorted(ended) == sorted(begun)


@pytest.mark.parametrize("ordered", [True, False])
@races(seeds=SEEDS)
def test_a_pool_keeps_its_limit_and_gives_each_result_once(ordered: bool) -> None:
    limit = random.randint(1, 3)
    running = most = taken = 0
    fails = random.choice([None, None, 5])

    def work(item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            preemption_point()
            gp.sleep(random.choice([0, some_time()]))
            if item == fails:
                raise Boom
            return -item
        finally:
            running -= 1

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(10):
            taken += 1
            preemption_point()
            yield item

    got: list[int] = []
    pool = imap if ordered else imap_unordered
    leave_at = random.choice([None, None, 3])
    failed = False
    try:
        with pool(work, items(), limit=limit) as results:
            for value in results:
                got.append(value)
                preemption_point()
                if len(got) == leave_at:
                    break
    except Boom:
        failed = True
    assert running == 0, "no call outlives the block"
    assert most <= limit
    assert len(got) == len(set(got))
    if ordered:
        assert got == [-item for item in range(len(got))]
    if leave_at is None:
        assert failed == (fails is not None)
        assert failed or sorted(got) == sorted(-item for item in range(10))
    assert taken <= 10


@races(seeds=SEEDS)
def test_after_cancel_calls_once_or_never() -> None:
    called: list[int] = []
    stopped: list[bool] = []
    reached = False

    def work() -> None:
        nonlocal reached
        with gp.move_on_after(random.choice([None, some_time()])) as scope:
            scopes.append(scope)
            stops.append(after_cancel(scope, called.append, 1))
            gp.sleep(random.choice([0, some_time()]))
            preemption_point()
            reached = this_hub().timers.clock() >= scope.deadline
        reached |= scope.cancelled

    def meddle() -> None:
        gp.sleep(some_time())
        if scopes and random.random() < 0.5:
            scopes[0].cancel()
        preemption_point()
        if stops and random.random() < 0.5:
            stopped.append(stops[0]())

    scopes: list[gp.Scope] = []
    stops: list[Any] = []
    with gp.Group() as group:
        group.spawn(work)
        group.spawn(meddle)
    gp.sleep(1)
    assert len(called) <= 1
    if stopped == [True]:
        assert not called
    assert reached or not called
    assert stops[0]() is False
