"""seeded: one seed is one interleaving, many seeds are many, and none of it outlives the block."""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from itertools import groupby

import pytest

import greenpump as gp
from greenpump.hub.hub import SLICE_NS, Hub
from greenpump.hub.local import hub_or_none, this_hub
from greenpump.hub.pollable import QUOTA, Pollable
from greenpump.sync import select as select_module
from greenpump.testing import preemption_point, seeded, virtual_clock, wait_all_parked

Log = list[object]


def busy_program(log: Log) -> None:
    """Everything that readies tasks: spawns, yields, channels, selects, timers, cancels, events."""
    channel, other = gp.Channel[int](1), gp.Channel[int]()
    stop = gp.Event()

    def producer(who: int) -> None:
        for number in range(3):
            channel.send(10 * who + number)
            log.append(("sent", who, number))
            gp.sleep(random.random() / 100)

    def consumer(who: int) -> None:
        while True:
            number, value = gp.select(gp.receiving(channel), gp.receiving(other), stop)
            log.append(("selected", who, number, value if number < 2 else "stop"))
            if number == 2:
                return
            preemption_point()
            log.append(("went on", who))

    def yielder(who: int) -> None:
        for turn in range(4):
            log.append(("turn", who, turn))
            gp.yield_now()
        with gp.move_on_after(0.005):
            other.send(who)
            log.append(("also sent", who))

    with gp.Group() as group:
        consumers = [group.spawn(consumer, who) for who in range(2)]
        producers = [group.spawn(producer, who) for who in range(3)]
        yielders = [group.spawn(yielder, who) for who in range(3)]
        for task in producers + yielders:
            task.join()
            log.append("joined")
        consumers[0].cancel()
        stop.set()


def interleaving(seed: int, program: Callable[[Log], None] = busy_program) -> tuple[object, ...]:
    log: Log = []
    with virtual_clock(), seeded(seed) as schedule:
        program(log)
    return (*log, schedule.steps)


@pytest.mark.parametrize("seed", range(6))
def test_the_same_seed_is_the_same_interleaving(seed: int) -> None:
    first = interleaving(seed)
    for turn in range(5):
        # What happened before on this hub doesn't count: its quota, its pool of workers.
        for _ in range(7 * turn):
            gp.yield_now()
        tasks = [gp.spawn(gp.sleep, 0) for _ in range(turn)]
        for task in tasks:
            task.join()
        assert interleaving(seed) == first


def test_the_same_seed_is_the_same_interleaving_in_another_process() -> None:
    here = repr([interleaving(seed) for seed in range(4)])
    code = (
        "from tests.testing.test_seeded import interleaving\n"
        "print([interleaving(seed) for seed in range(4)])"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=os.getcwd()
    )
    assert there.stdout.strip() == here


def test_other_seeds_are_other_interleavings() -> None:
    assert len({interleaving(seed) for seed in range(50)}) == 50


def in_turn(log: Log) -> None:
    tasks = [gp.spawn(log.append, name) for name in "abcd"]
    for task in tasks:
        task.join()


def test_every_order_of_what_is_ready_is_tried_and_as_often() -> None:
    """By even seeds: 24 orders of 4 tasks, 4 draws each; the main task joins before any runs."""
    rounds = 2400
    orders = Counter(interleaving(2 * seed, in_turn)[:4] for seed in range(rounds))
    assert len(orders) == 24
    expected = rounds / 24
    chi_squared = sum((count - expected) ** 2 / expected for count in orders.values())
    assert chi_squared < 49.7, f"p < 0.001 with 23 degrees of freedom: {orders}"


def test_odd_seeds_hold_a_task_back_for_long() -> None:
    """Two pairs of 25 messages: an odd seed may let one pair finish before the other begins."""

    def first_run(seed: int) -> int:
        turns: Log = []

        def send(channel: gp.Channel[int]) -> None:
            for number in range(25):
                channel.send(number)

        def receive(channel: gp.Channel[int], who: str) -> None:
            for _ in range(25):
                channel.recv()
                turns.append(who)

        def program(log: Log) -> None:
            tasks = []
            for who in "ab":
                channel = gp.Channel[int]()
                tasks += [gp.spawn(send, channel), gp.spawn(receive, channel, who)]
            for task in tasks:
                task.join()

        interleaving(seed, program)
        return len(list(next(groupby(turns))[1]))

    assert max(first_run(seed) for seed in range(1, 41, 2)) == 25
    assert max(first_run(seed) for seed in range(0, 40, 2)) < 15


def test_a_task_that_waits_by_yielding_gives_way_under_every_seed() -> None:
    for seed in range(40):
        with seeded(seed):
            arrived: Log = []
            task = gp.spawn(arrived.append, "there")
            while not arrived:
                gp.yield_now()
            task.join()


def test_everything_is_as_before_afterwards_also_after_an_error() -> None:
    hub = this_hub()
    state, chance = random.getstate(), select_module.chance.getstate()

    def fail() -> None:
        random.random()
        gp.spawn(int).join()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), seeded():
        fail()
    assert type(hub) is Hub
    assert (random.getstate(), select_module.chance.getstate()) == (state, chance)
    order: Log = []
    tasks = [gp.spawn(order.append, number) for number in range(50)]
    for task in tasks:
        task.join()
    assert order == list(range(50)), "first in, first out again"


def test_how_long_tasks_compute_changes_nothing() -> None:
    def polls() -> int:
        before = hub.polls
        for _ in range(10 * QUOTA):
            now[0] += SLICE_NS
            gp.yield_now()
        return hub.polls - before

    hub = this_hub()
    clock = hub.timers.clock
    now = [clock()]
    hub.timers.use_clock(lambda: now[0], alarm=False)
    try:
        unseeded = polls()
        with seeded(1):
            assert polls() <= 11
        assert unseeded > 11  # else this test would show nothing
    finally:
        hub.timers.use_clock(clock, alarm=True)


def test_what_was_ready_before_and_what_is_left_runs() -> None:
    order: Log = []
    tasks = [gp.spawn(order.append, number) for number in range(3)]
    with seeded(1):
        tasks += [gp.spawn(order.append, number) for number in range(3, 6)]
    for task in tasks:
        task.join()
    assert sorted(order, key=repr) == list(range(6))


def test_one_inside_another_is_refused() -> None:
    with seeded(), pytest.raises(RuntimeError, match="seeded already"), seeded():
        pass
    assert type(this_hub()) is Hub


def test_as_a_decorator_and_from_a_task() -> None:
    kinds: list[type[Hub]] = []

    @seeded(3)
    def body() -> None:
        kinds.append(type(this_hub()))
        gp.yield_now()

    body()
    task = gp.spawn(body)
    task.result()
    body()
    assert len(kinds) == 3
    assert Hub not in kinds


@pytest.mark.parametrize("inside", [True, False])
def test_with_the_virtual_clock_either_way_round(inside: bool) -> None:
    woke: Log = []

    def sleeper(seconds: float) -> None:
        gp.sleep(seconds)
        woke.append(seconds)

    with (
        seeded(5) if inside else virtual_clock(),
        virtual_clock() if inside else seeded(5),
    ):
        tasks = [gp.spawn(sleeper, seconds) for seconds in (30, 1, 3600, 7)]
        for task in tasks:
            task.join()
    assert woke == [1, 7, 30, 3600], "the seed decides among the ready, not over time"


def test_with_wait_all_parked() -> None:
    for seed in range(10):
        with virtual_clock() as clock, seeded(seed):
            before = clock.now()
            events = [gp.Event() for _ in range(3)]
            tasks = [gp.spawn(event.wait) for event in events]
            sleeper = gp.spawn(gp.sleep, 5)
            wait_all_parked()
            assert [len(event._waiting) for event in events] == [1, 1, 1]
            assert clock.now() == before
            for event in events:
                event.set()
            wait_all_parked()
            assert all(task.done for task in tasks)
            sleeper.join()


def test_with_fds_threads_and_offloaded_calls() -> None:
    with seeded(8):
        left, right = socket.socketpair()
        pollable = Pollable(left.fileno())
        pollable.readable = 0
        got: Log = []

        def reader() -> None:
            pollable.wait_read()
            got.append(left.recv(10))

        with left, right:
            tasks = [gp.spawn(reader), gp.spawn(gp.offload, right.send, b"hello")]
            event = gp.Event()
            thread = threading.Thread(target=event.set)
            thread.start()
            event.wait()
            for task in tasks:
                task.join()
            thread.join()
            pollable.close()
        assert got == [b"hello"]


def test_a_deadlock_is_still_one() -> None:
    with seeded(), virtual_clock(), pytest.raises(gp.Deadlock):
        gp.Event().wait()


def test_a_deep_chain_of_tasks_and_a_deep_stack() -> None:
    """Law 2 and 3 hold: nobody starts from a deep stack, and nothing is lost at its end."""
    ended: Log = []

    def chain(left: int) -> None:
        if left:
            gp.spawn(chain, left - 1)
            gp.yield_now()
        else:
            ended.append("all")

    def deep() -> None:
        try:
            gp.yield_now()
            deep()
        except RecursionError:
            ended.append("deep")

    with seeded(2):
        tasks = [gp.spawn(chain, 3000), gp.spawn(deep), gp.spawn(deep)]
        while len(ended) < 3:
            gp.yield_now()
        for task in tasks:
            task.join()
    assert sorted(ended, key=str) == ["all", "deep", "deep"]


def test_handlers_that_raise_lose_no_task() -> None:
    class Struck(Exception):
        pass

    def strike(signum: int, frame: object) -> None:
        raise Struck

    before = signal.signal(signal.SIGVTALRM, strike)
    struck = 0

    def yielder() -> None:
        nonlocal struck
        while struck < 30:
            try:
                gp.yield_now()
            except Struck:
                struck += 1

    def persist(fn: Callable[[], object]) -> None:
        nonlocal struck
        while True:
            try:
                fn()
                return
            except Struck:
                struck += 1

    try:
        with seeded(4):
            tasks = [gp.spawn(persist, yielder) for _ in range(5)]
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0007, 0.0007)
            for task in tasks:
                persist(task.join)
            while True:
                try:
                    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
                    break
                except Struck:
                    continue
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert all(task.done for task in tasks)


def test_no_task_outlives_its_end_because_of_the_schedule() -> None:
    class Thing:
        pass

    alive = 0

    def count() -> int:
        gc.collect()
        return sum(isinstance(each, Thing) for each in gc.get_objects())

    with seeded(1):  # odd: it has ranks
        for _ in range(30):
            gp.spawn(id, Thing()).join()
        gp.yield_now()
        alive = count()
    assert alive <= 1


# -- the seed ------------------------------------------------------------------------------------


def test_without_a_seed_each_time_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GREENPUMP_SEED", raising=False)
    seeds = set()
    for _ in range(5):
        with seeded() as schedule:
            seeds.add(schedule.seed)
    assert len(seeds) == 5


def test_the_environment_gives_the_seed_but_not_over_an_argument(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GREENPUMP_SEED", "17")
    with seeded() as schedule:
        assert schedule.seed == 17
    with seeded(18) as schedule:
        assert schedule.seed == 18
    monkeypatch.setenv("GREENPUMP_SEED", "x")
    with pytest.raises(ValueError, match="GREENPUMP_SEED must be a whole number: 'x'"), seeded():
        pass


def test_a_failure_says_its_seed_how_to_replay_it_and_who_ran_last() -> None:
    def fail() -> None:
        task = gp.spawn(gp.yield_now)
        task.name = "the other"
        task.join()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught, seeded(1234) as schedule:
        fail()
    [note] = caught.value.__notes__
    assert note.startswith(
        "seed 1234; to replay it: GREENPUMP_SEED=1234 python -m pytest "
        "tests/testing/test_seeded.py::test_a_failure_says_its_seed_how_to_replay_it_and_who_ran_"
    )
    assert f"{schedule.steps} steps, the last: the other, " in note
    assert repr(schedule) == f"<Schedule of seed 1234, {schedule.steps} steps>"


def test_the_replay_line_of_a_program_is_its_command() -> None:
    code = "from greenpump.testing import seeded\nwith seeded(): 1 / 0"
    environment = {key: value for key, value in os.environ.items() if key != "PYTEST_CURRENT_TEST"}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment | {"GREENPUMP_SEED": "77"},
        check=False,
    )
    assert "ZeroDivisionError" in ended.stderr
    assert f"seed 77; to replay it: GREENPUMP_SEED=77 {sys.executable} -c '" in ended.stderr


# -- preemption points ---------------------------------------------------------------------------


def test_a_preemption_point_yields_at_some_and_not_at_others() -> None:
    def program(log: Log) -> None:
        def worker(who: str) -> None:
            for _ in range(3):
                log.append(who)
                preemption_point()

        tasks = [gp.spawn(worker, who) for who in "ab"]
        for task in tasks:
            task.join()

    orders = {interleaving(seed, program)[:6] for seed in range(300)}
    assert len(orders) == 20, "6 over 3: every interleaving of three steps and three"


def test_elsewhere_a_preemption_point_does_nothing() -> None:
    quota = this_hub().quota
    preemption_point()
    assert this_hub().quota == quota
    seen: Log = []

    def in_a_thread_without_a_hub() -> None:
        for _ in range(10):
            preemption_point()
        seen.append(hub_or_none())

    with seeded():
        thread = threading.Thread(target=in_a_thread_without_a_hub)
        thread.start()
        thread.join()
    assert seen == [None]
