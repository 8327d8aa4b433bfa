"""Mutex, semaphore, condition, queue and their kin under thousands of seeds.

As in test_races.py: no interleaving of cancels, deadlines and hand-overs may lose a token, let two
in where one may be, or leave anybody waiting.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import BrokenBarrierError
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub.local import this_hub
from greenpump.sync.barrier import Barrier
from greenpump.sync.condition import Condition
from greenpump.sync.limiter import RateLimiter
from greenpump.sync.mutex import Mutex
from greenpump.sync.once import Once
from greenpump.sync.queue import Empty, Full, LifoQueue, PriorityQueue, Queue, ShutDown
from greenpump.sync.rwmutex import RWMutex
from greenpump.sync.semaphore import Semaphore
from greenpump.sync.singleflight import Singleflight
from greenpump.sync.timer import Ticker, Timer
from greenpump.sync.waiters import Waiters
from greenpump.sync.waitgroup import WaitGroup
from greenpump.testing import preemption_point, races, wait_all_parked

SEEDS = 300


def some_time() -> float:
    """One of few times, so that deadlines meet each other and what happens meanwhile."""
    return random.randrange(1, 4) / 1000


def meddle(scopes: list[gp.Scope], turns: int) -> None:
    """Cancel some of the scopes, now and then."""
    for _ in range(turns):
        preemption_point()
        if scopes and random.random() < 0.5:
            random.choice(scopes).cancel()
        if random.random() < 0.3:
            gp.sleep(some_time())


def nobody_waits(place: Waiters[Any]) -> bool:
    return not place._line and not place._granted


class Inside:
    """Who is in the block, and how heavy they are together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.weight = 0
        self.alone = False

    def stay(self, weight: int = 1, alone: bool = False) -> None:
        assert not self.alone, "somebody else is in there alone"
        assert not (alone and self.weight), "others are in there"
        self.weight += weight
        self.alone = alone
        assert self.weight <= self.limit
        try:
            preemption_point()
            if random.random() < 0.4:
                gp.sleep(some_time())
        finally:
            self.weight -= weight
            self.alone = False


def crowd(work: Callable[[], object], tasks: int = 5, turns: int = 3) -> None:
    """Tasks that do ``work`` again and again, each time in a scope that may be cancelled."""
    scopes: list[gp.Scope] = []

    def member() -> None:
        for _ in range(turns):
            with gp.move_on_after(random.choice([None, some_time()])) as scope:
                scopes.append(scope)
                preemption_point()
                work()

    with gp.Group() as group:
        members = [group.spawn(member) for _ in range(tasks)]
        group.spawn(meddle, scopes, 8)
        if random.random() < 0.5:
            preemption_point()
            random.choice(members).cancel()


# -- exclusion -------------------------------------------------------------------------------------


@races(seeds=SEEDS)
def test_a_mutex_lets_one_in_and_is_free_in_the_end() -> None:
    mutex, inside = Mutex(), Inside(1)

    def work() -> None:
        way = random.randrange(3)
        if way == 0:
            with mutex:
                inside.stay()
        elif way == 1:
            if mutex.try_acquire():
                try:
                    inside.stay()
                finally:
                    mutex.release()
        elif mutex.acquire(timeout=random.choice([None, 0.001, 0.002])):
            try:
                inside.stay()
            finally:
                mutex.release()

    crowd(work)
    assert nobody_waits(mutex)
    assert not mutex.locked()
    assert mutex.try_acquire()


@races(seeds=SEEDS)
def test_a_mutex_is_handed_on_in_the_order_of_coming() -> None:
    mutex = Mutex()
    came: list[int] = []
    served: list[int] = []

    def wait(who: int) -> None:
        preemption_point()
        came.append(who)
        with mutex:
            served.append(who)
            preemption_point()

    with gp.Group() as group, mutex:
        tasks = [group.spawn(wait, who) for who in range(5)]
        wait_all_parked()
        tasks[2].cancel()
        assert not mutex.try_acquire()
    assert served == [who for who in came if who != 2 or 2 in served]
    assert len(served) == 4


@races(seeds=SEEDS)
def test_a_semaphore_keeps_its_limit_and_its_tokens() -> None:
    limit = random.randrange(1, 4)
    semaphore, inside = Semaphore(limit), Inside(limit)

    def work() -> None:
        weight = random.randint(1, limit)
        if semaphore.acquire(weight, timeout=random.choice([None, 0.001, 0.002])):
            try:
                inside.stay(weight)
            finally:
                semaphore.release(weight)

    crowd(work)
    assert nobody_waits(semaphore)
    assert semaphore.available == limit


@races(seeds=SEEDS)
def test_readers_and_writers() -> None:
    rw, inside = RWMutex(), Inside(100)

    def work() -> None:
        writes = random.random() < 0.4
        block: AbstractContextManager[object] = rw.write() if writes else rw.read()
        with block:
            inside.stay(alone=writes)

    crowd(work)
    assert nobody_waits(rw)
    assert rw.try_acquire_write()


@races(seeds=SEEDS)
def test_a_waiting_writer_holds_new_readers_back() -> None:
    rw = RWMutex()
    order: list[str] = []

    def writer() -> None:
        with rw.write():
            order.append("writer")

    def reader() -> None:
        with rw.read():
            order.append("reader")

    with gp.Group() as group, rw.read():
        group.spawn(writer)
        wait_all_parked()
        for _ in range(3):
            group.spawn(reader)
        wait_all_parked()
        assert order == []
    assert order == ["writer", "reader", "reader", "reader"]


# -- meeting ---------------------------------------------------------------------------------------


@races(seeds=SEEDS)
def test_a_bounded_buffer_of_two_conditions() -> None:
    """The textbook's: it hangs as soon as one notify is lost to somebody who is cancelled."""
    mutex = Mutex()
    not_empty, not_full = Condition(mutex), Condition(mutex)
    buffer: list[int] = []
    put: list[int] = []
    got: list[int] = []
    scopes: list[gp.Scope] = []
    total = 9

    def limited() -> gp.Scope:
        scope = gp.move_on_after(random.choice([None, some_time()]))
        scopes.append(scope)
        return scope

    def produce(who: int) -> None:
        for number in range(3):
            item = 10 * who + number
            while item not in put:
                with limited(), mutex:
                    not_full.wait_for(lambda: len(buffer) < 2)
                    buffer.append(item)
                    put.append(item)
                    not_empty.notify()

    def consume() -> None:
        while len(got) < total:
            with limited(), mutex:
                not_empty.wait_for(lambda: buffer or len(got) == total)
                if buffer:
                    got.append(buffer.pop(0))
                    not_full.notify()
                if len(got) == total:
                    not_empty.notify_all()

    with gp.Group() as group:
        for who in range(3):
            group.spawn(produce, who)
        for _ in range(2):
            group.spawn(consume)
        group.spawn(meddle, scopes, 6)
    assert sorted(got) == sorted(put) == sorted(10 * who + n for who in range(3) for n in range(3))
    assert all(nobody_waits(place) for place in (mutex, not_empty, not_full))
    assert not mutex.locked()


@races(seeds=SEEDS)
def test_notify_wakes_as_many_as_it_says() -> None:
    condition = Condition()
    woken: list[int] = []

    def wait(who: int) -> None:
        with condition:
            if condition.wait(random.choice([None, 10])):
                woken.append(who)

    tasks = [gp.spawn(wait, who) for who in range(5)]
    wait_all_parked()
    tasks[1].cancel()
    wait_all_parked()
    wanted = random.randrange(1, 4)
    with condition:
        condition.notify(wanted)
    wait_all_parked()
    assert len(woken) == wanted
    with condition:
        condition.notify_all()
    for task in tasks:
        task.join()
    assert len(woken) == 4
    assert nobody_waits(condition)


@races(seeds=SEEDS)
def test_a_barrier_keeps_its_rounds_apart() -> None:
    parties, rounds = 3, 4
    acted: list[int] = []
    barrier = Barrier(parties, action=lambda: acted.append(len(acted)))
    at: Counter[int] = Counter()
    numbers: dict[int, list[int]] = {number: [] for number in range(rounds)}

    def walk(who: int) -> None:
        for number in range(rounds):
            preemption_point()
            at[who] = number
            numbers[number].append(barrier.wait())
            assert all(abs(at[other] - number) <= 1 for other in range(parties))
            assert len(acted) > number

    with gp.Group() as group:
        for who in range(parties):
            group.spawn(walk, who)
    assert all(sorted(each) == list(range(parties)) for each in numbers.values())
    assert len(acted) == rounds
    assert nobody_waits(barrier)


@races(seeds=SEEDS)
def test_a_barrier_that_breaks_keeps_nobody() -> None:
    barrier = Barrier(3)
    outcomes: list[str] = []

    def come() -> None:
        with gp.move_on_after(random.choice([None, some_time()])) as scope:
            scopes.append(scope)
            try:
                preemption_point()
                barrier.wait(random.choice([None, 0.002]))
                outcomes.append("passed")
            except BrokenBarrierError:
                outcomes.append("broken")

    scopes: list[gp.Scope] = []
    tasks = [gp.spawn(come) for _ in range(5)]
    gp.spawn(meddle, scopes, 4).join()
    gp.sleep(some_time())
    barrier.abort()
    for task in tasks:
        task.join()
    assert outcomes.count("passed") in (0, 3)
    assert nobody_waits(barrier)


@races(seeds=SEEDS)
def test_a_wait_group_holds_until_all_are_done() -> None:
    group = WaitGroup()
    done: list[int] = []
    waited: list[bool] = []

    def work(who: int) -> None:
        gp.sleep(random.choice([0, some_time()]))
        done.append(who)

    def wait() -> None:
        while not group.wait(random.choice([None, some_time()])):
            preemption_point()
        waited.append(len(done) == 4)

    for who in range(4):
        group.go(work, who)
    tasks = [gp.spawn(wait) for _ in range(3)]
    victim = gp.spawn(group.wait)
    preemption_point()
    victim.cancel()
    for task in [*tasks, victim]:
        task.join()
    assert waited == [True] * 3
    assert nobody_waits(group)


@races(seeds=SEEDS)
def test_once_is_once() -> None:
    once = Once()
    calls: list[str] = []
    seen: list[bool] = []

    def initialise() -> None:
        calls.append("begun")
        preemption_point()
        gp.sleep(random.choice([0, some_time()]))
        calls.append("ended")

    def need() -> None:
        preemption_point()
        once.do(initialise)
        seen.append(calls.count("ended") == 1)

    with gp.Group() as group:
        tasks = [group.spawn(need) for _ in range(4)]
        preemption_point()
        tasks[0].cancel()
    assert len(seen) >= 3
    assert all(seen)
    assert calls.count("ended") == 1
    assert calls.count("begun") <= 2, "again only if the first was cancelled"


@races(seeds=SEEDS)
def test_of_many_who_want_the_same_one_calls() -> None:
    flights = Singleflight()
    under_way = most = calls = 0
    got: list[int] = []
    scopes: list[gp.Scope] = []

    def fetch() -> int:
        nonlocal under_way, most, calls
        calls += 1
        under_way += 1
        most = max(most, under_way)
        gp.sleep(some_time())
        under_way -= 1
        return calls

    def want() -> None:
        for _ in range(3):
            with gp.move_on_after(random.choice([None, some_time()])) as scope:
                scopes.append(scope)
                asked = calls
                value = flights.do("key", fetch)
                got.append(value)
                assert value >= asked, "a call that had ended before it was asked for"

    with gp.Group() as group:
        for _ in range(4):
            group.spawn(want)
        group.spawn(meddle, scopes, 5)
    gp.sleep(1)  # the flight that everybody left goes on to its end
    assert most <= 1
    assert under_way == len(flights) == 0


# -- queues ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Queue, LifoQueue, PriorityQueue])
@races(seeds=SEEDS)
def test_a_queue_under_cancels_and_shutdown(kind: type[Queue[int]]) -> None:
    queue = kind(random.randrange(4))
    immediate = random.random() < 0.3
    put: list[int] = []
    got: list[int] = []
    scopes: list[gp.Scope] = []

    def limited() -> gp.Scope:
        scope = gp.move_on_after(random.choice([None, some_time()]))
        scopes.append(scope)
        return scope

    def produce(who: int) -> None:
        for number in range(4):
            item = 10 * who + number
            with limited():
                preemption_point()
                try:
                    queue.put(item, timeout=random.choice([None, 0.001, 0]))
                except Full:
                    continue
                except ShutDown:
                    return
                put.append(item)

    def consume() -> None:
        while True:
            with limited():
                preemption_point()
                try:
                    got.append(queue.get(timeout=random.choice([None, 0.001])))
                except Empty:
                    continue
                except ShutDown:
                    return
                queue.task_done()

    with gp.Group() as group:
        producers = [group.spawn(produce, who) for who in range(3)]
        for _ in range(2):
            group.spawn(consume)
        group.spawn(meddle, scopes, 6)
        if random.random() < 0.5:
            for task in producers:
                task.join()
        else:
            gp.sleep(some_time())
        if random.random() < 0.3 and all(task.done for task in producers):
            queue.join()
            assert sorted(got) == sorted(put)
        queue.shutdown(immediate)
    assert Counter(got) <= Counter(put)
    if not immediate:
        assert sorted(got) == sorted(put)
    assert queue.unfinished_tasks == queue.qsize() == 0
    queue.join()


# -- time ------------------------------------------------------------------------------------------


@races(seeds=SEEDS)
def test_a_rate_is_kept_whoever_leaves_the_line() -> None:
    burst = random.randint(1, 3)
    limiter = RateLimiter(1000.0, burst)
    events: list[int] = []

    def work() -> None:
        limiter.wait(weight := random.randint(1, burst))
        events.extend([this_hub().timers.clock()] * weight)

    crowd(work)
    for first in range(len(events)):
        for last in range(first + 1, len(events)):
            span = (events[last] - events[first]) / 1e9
            assert last - first + 1 <= burst + span * 1000 + 0.001
    gp.sleep(10)
    assert limiter.tokens == burst, "what was cancelled was given back"
    assert not limiter._line


@races(seeds=SEEDS)
def test_a_timer_that_was_stopped_or_reset_has_no_stale_value() -> None:
    """Each setting is either received, once, or what took it back says so."""
    timer = Timer(some_time())
    settings, taken_back = 1, 0
    got: list[float] = []

    def receive() -> None:
        while True:
            got.append(timer.recv())
            preemption_point()

    receivers = [gp.spawn(receive) for _ in range(2)]
    for _ in range(6):
        gp.sleep(random.choice([0, 0.0005, some_time()]))
        if random.random() < 0.6:
            taken_back += timer.reset(some_time())
            settings += 1
        else:
            taken_back += timer.stop()
        if random.random() < 0.3:
            victim = receivers.pop(0)
            victim.cancel()
            victim.join()
            receivers.append(gp.spawn(receive))
    taken_back += timer.stop()
    wait_all_parked()
    assert len(got) == settings - taken_back
    for task in receivers:
        task.cancel()
        task.join()


@races(seeds=SEEDS)
def test_a_ticker_drops_what_comes_too_late() -> None:
    ticker = Ticker(0.001)
    got: list[float] = []

    def receive() -> None:
        while True:
            got.append(ticker.recv())
            gp.sleep(random.choice([0, some_time()]))

    tasks = [gp.spawn(receive) for _ in range(2)]
    gp.sleep(0.0105)
    ticker.stop()
    for task in tasks:
        task.cancel()
        task.join()
    assert len(got) <= 10
    assert len(got) == len(set(got)), "no tick goes to two"
