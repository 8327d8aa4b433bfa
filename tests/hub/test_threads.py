"""Hubs side by side: wakes across threads, tasks on ANY, the start and the end of a program."""

from __future__ import annotations

import gc
import math
import os
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub import threads
from greenpump.hub.deadlock import Bystander
from greenpump.hub.hub import PATIENCE_MS, Hub
from greenpump.hub.local import fleet, hub_or_none, hubs, this_hub
from greenpump.hub.task import Task
from greenpump.hub.wait import wake
from greenpump.testing import wait_all_parked

from .conftest import Program

IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")
SHARE = 1 if IN_CI else 5
"""A million wakes in CI, a fifth of them elsewhere."""

LONG = 50.0


def two_hubs() -> tuple[Hub, Hub]:
    here, there = gp.hubs()
    return here, there


# -- a million wakes ------------------------------------------------------------------------------


def test_events_play_ping_pong_between_two_hubs() -> None:
    pairs, rounds = 100, 1000 // SHARE
    woken = [0] * (2 * pairs)

    def player(me: int, mine: gp.Event, other: gp.Event) -> None:
        if me % 2:
            other.set()
        for _ in range(rounds):
            assert mine.wait(LONG)
            mine.clear()
            woken[me] += 1
            other.set()

    def main() -> None:
        here, there = two_hubs()
        tasks = []
        for n in range(pairs):
            ball, bat = gp.Event(), gp.Event()
            tasks.append(gp.spawn_on(here, player, 2 * n, ball, bat))
            tasks.append(gp.spawn_on(there, player, 2 * n + 1, bat, ball))
        for task in tasks:
            task.result()

    gp.run(main, hubs=2)
    assert woken == [rounds] * (2 * pairs)  # 200,000 wakes


@pytest.mark.parametrize("on_any", [False, True])
def test_tasks_spawned_on_the_other_hub_are_joined(on_any: bool) -> None:
    spawners, rounds = 100, 1000 // SHARE
    ran: list[int] = []

    def spawner(me: int, other: Any) -> int:
        for _ in range(rounds):
            assert gp.spawn_on(other, ran.append, me).join(LONG)
        return rounds

    def main() -> None:
        here, there = two_hubs()
        tasks = [
            gp.spawn_on(hub, spawner, n, gp.ANY if on_any else other)
            for n in range(spawners)
            for hub, other in ((here, there), (there, here))
        ]
        assert sum(task.result() for task in tasks) == 2 * spawners * rounds

    gp.run(main, hubs=2)
    assert len(ran) == 2 * spawners * rounds  # 200,000 spawns, and a wake for the end of each
    assert sorted(set(ran)) == list(range(spawners))


class Slot:
    """A place for one waiter that counts how its waits ended, on both sides."""

    def __init__(self) -> None:
        self.waiting: dict[Task[Any], bool] = {}
        self.claimed = self.woken = self.late = 0

    def park(self, timeout: float) -> None:
        hub = this_hub()
        task = hub.prepare()
        deadline = hub.timers.after(timeout)
        self.waiting[task] = True
        if hub.wait(task, self, deadline):
            self.woken += 1
        else:
            self.late += 1

    def wake(self) -> None:
        for task in list(self.waiting):
            if self.waiting.pop(task, False):
                self.claimed += 1
                wake(task)

    def abandon(self, task: Task[Any]) -> bool:
        return self.waiting.pop(task, False)

    def reason(self, task: Task[Any]) -> str:
        return "a slot of the test"


def test_wakes_race_with_deadlines_and_each_wait_ends_once() -> None:
    pairs, rounds = 100, 1000 // SHARE
    slots = [Slot() for _ in range(pairs)]

    def waiter(slot: Slot, seed: int) -> None:
        pick = random.Random(seed)
        for _ in range(rounds):
            slot.park(pick.choice([1e-5, 1e-4, 1e-3, LONG]))

    def waker(slot: Slot, waiter: Task[None]) -> None:
        while not waiter.done:
            slot.wake()
            gp.yield_now()

    def main() -> None:
        tasks: list[Task[None]] = []
        for n, slot in enumerate(slots):
            here, there = two_hubs() if n % 2 else two_hubs()[::-1]
            tasks.append(gp.spawn_on(here, waiter, slot, n))
            tasks.append(gp.spawn_on(there, waker, slot, tasks[-1]))
        for task in tasks:
            task.result()

    gp.run(main, hubs=2)
    for slot in slots:
        assert slot.claimed == slot.woken
        assert slot.woken + slot.late == rounds  # 100,000 waits
        assert not slot.waiting
    assert sum(slot.woken for slot in slots) > pairs
    assert sum(slot.late for slot in slots) > pairs


def test_cancels_race_with_wakes_and_each_wait_ends_once() -> None:
    pairs, rounds = 50, 200
    outcomes = [0, 0]

    def waiter(event: gp.Event, scopes: list[Any]) -> None:
        with gp.move_on_after() as scope:
            scopes.append(scope)
            event.wait(LONG)
        outcomes[scope.expired] += 1

    def main() -> None:
        here, there = two_hubs()

        def fight(seed: int) -> None:
            pick = random.Random(seed)
            for _ in range(rounds):
                event, scopes = gp.Event(), list[Any]()
                task = gp.spawn_on(there, waiter, event, scopes)
                while not scopes:
                    gp.yield_now()
                deeds = [event.set, scopes[0].cancel]
                pick.shuffle(deeds)
                for deed in deeds:
                    gp.spawn_on(pick.choice([here, there]), deed)
                assert task.join(LONG)
                assert not event._waiting

        for task in [gp.spawn(fight, n) for n in range(pairs)]:
            task.result()

    gp.run(main, hubs=2)
    assert sum(outcomes) == pairs * rounds


@pytest.mark.parametrize("posters", [1, 4])
def test_steps_that_threads_post_to_a_sleeping_hub_are_all_done(posters: int) -> None:
    each = 100_000 // SHARE // posters
    hub = this_hub()
    done = [0]
    all_done = gp.Event()

    def step() -> None:
        done[0] += 1
        if done[0] == posters * each:
            all_done.set()

    def poster() -> None:
        for _ in range(each):
            hub.post(step)

    runners = [threading.Thread(target=poster) for _ in range(posters)]
    for runner in runners:
        runner.start()
    assert all_done.wait(LONG)
    for runner in runners:
        runner.join()
    assert done == [posters * each]


def test_one_wake_at_a_time_finds_the_hub_asleep_each_time() -> None:
    # The window between the last look and the sleep, with nothing in flight to hide a lost wake.
    rounds = 10_000 // SHARE
    hub = this_hub()
    event = gp.Event()
    go = threading.Semaphore(0)

    def waker() -> None:
        for _ in range(rounds):
            go.acquire()
            event.set()

    thread = threading.Thread(target=waker)
    thread.start()
    for _ in range(rounds):
        go.release()
        assert event.wait(LONG)
        event.clear()
    thread.join()
    assert not hub.inbox


# -- spawn_on -------------------------------------------------------------------------------------


def test_spawn_on_runs_there_with_the_callers_context() -> None:
    import contextvars

    colour = contextvars.ContextVar("colour", default="none")

    def where(*args: int, **kwargs: int) -> object:
        return this_hub(), colour.get(), args, kwargs

    def main() -> None:
        here, there = two_hubs()
        colour.set("red")
        assert gp.spawn_on(there, where, 1, b=2).result() == (there, "red", (1,), {"b": 2})
        assert gp.spawn_on(here, where).result() == (here, "red", (), {})
        task = gp.spawn_on(there, where)
        assert f"{__file__}:" in task.spawned_at()
        task.join()

    gp.run(main, hubs=2)


def test_spawn_on_from_a_thread_without_a_hub() -> None:
    ran: list[int] = []
    hub = this_hub()
    thread = threading.Thread(target=gp.spawn_on, args=(hub, ran.append, 1))
    thread.start()
    thread.join()
    wait_all_parked()
    assert ran == [1]


@pytest.mark.parametrize(
    ("target", "fn", "message"),
    [
        ("hub", 5, "spawn_on needs a callable, not 5"),
        ("nothing", int, "spawn_on needs a hub or ANY, not 'nothing'"),
    ],
)
def test_spawn_on_with_nonsense(target: Any, fn: Any, message: str, hub: Hub) -> None:
    with pytest.raises(TypeError, match=message):
        gp.spawn_on(hub if target == "hub" else target, fn)


def test_spawn_on_a_hub_that_has_ended(hub: Hub) -> None:
    hub.close()
    with pytest.raises(gp.HubError, match="the hub of MainThread has ended"):
        gp.spawn_on(hub, int)


def test_spawn_on_a_hub_that_ends_just_now(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    # Between the check and the post.
    def closing(self: Hub, item: Any) -> None:
        self.closed = True
        self.inbox.append(item)

    monkeypatch.setattr(Hub, "post", closing)
    errors = []

    def spawn() -> None:
        try:
            gp.spawn_on(hub, int)
        except gp.HubError as error:
            errors.append(str(error))

    thread = threading.Thread(target=spawn)
    thread.start()
    thread.join()
    hub.closed = False
    assert errors == ["the hub of MainThread has ended: nothing can run on it"]
    assert not hub.inbox


def test_any_without_a_run_is_this_threads_hub(hub: Hub) -> None:
    assert repr(gp.ANY) == "greenpump.ANY"
    assert gp.hubs() == [hub]
    assert gp.spawn_on(gp.ANY, this_hub).result() is hub


def test_an_idle_hub_takes_what_a_busy_one_has_not_started() -> None:
    def main() -> None:
        here, there = two_hubs()
        ran_on: list[Hub] = []
        done = threading.Semaphore(0)

        def note() -> None:
            ran_on.append(this_hub())
            done.release()

        # This thread is held without a park: all that can run them is the other hub.
        for _ in range(100):
            gp.spawn_on(gp.ANY, note)
        for _ in range(100):
            assert done.acquire(timeout=LONG)
        assert ran_on == [there] * 100
        assert not here.stealable
        assert not there.stealable

    gp.run(main, hubs=2)


def test_both_hubs_run_what_is_spawned_on_any() -> None:
    def main() -> None:
        for _ in range(100):
            # Each holds its thread until the other runs: only on two hubs do both end.
            meet = threading.Barrier(2)
            ran_on: set[Hub] = set()

            def hold(meet: threading.Barrier = meet, ran_on: set[Hub] = ran_on) -> None:
                ran_on.add(this_hub())
                meet.wait(LONG)

            for task in [gp.spawn_on(gp.ANY, hold) for _ in range(2)]:
                task.result()
            assert len(ran_on) == 2

    gp.run(main, hubs=2)


def test_a_cancel_of_a_task_on_any_reaches_it_wherever_it_goes() -> None:
    started: list[int] = []

    def stay(n: int) -> None:
        started.append(n)
        gp.sleep(math.inf)

    def main() -> None:
        def spawner(seed: int) -> None:
            pick = random.Random(seed)
            for n in range(200):
                task = gp.spawn_on(gp.ANY, stay, n)
                for _ in range(pick.randrange(3)):
                    gp.yield_now()
                task.cancel()
                assert task.join(LONG)
                assert task.cancelled

        tasks = [gp.spawn_on(hub, spawner, n) for n in range(10) for hub in gp.hubs()]
        for task in tasks:
            task.result()

    gp.run(main, hubs=2)


def test_the_load_of_each_hub_and_stats() -> None:
    def main() -> None:
        here, there = two_hubs()
        parked = [gp.spawn_on(there, gp.sleep, math.inf) for _ in range(5)]
        gp.spawn_on(there, gp.yield_now).join()
        while not there.sleeping:
            gp.yield_now()
        assert there.load() == 0
        assert here.load() >= 1
        queued = [gp.spawn(gp.yield_now) for _ in range(7)]
        assert here.load() == 8
        by_thread = {each.thread: each for each in gp.stats().hubs}
        # With its main task; and a worker without one that looks for work may count for one.
        assert by_thread["hub-2"].parked in (6, 7)
        assert by_thread["hub-2"].sleeping
        assert by_thread["MainThread"].unstarted == 7
        assert gp.spawn_on(gp.ANY, this_hub).result() in (here, there)
        for task in (*parked, *queued):
            task.cancel()

    gp.run(main, hubs=2)


def test_any_goes_to_the_hub_that_has_least_to_do() -> None:
    def main() -> None:
        there = two_hubs()[1]
        for _ in range(10):
            gp.spawn(int)
        while not there.sleeping:
            time.sleep(0.0001)
        assert threads._least_loaded() is there

    gp.run(main, hubs=2)


# -- run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5])
def test_run_returns_what_main_returns_and_closes_everything(n: int) -> None:
    ran_in = []

    def main(a: int, *, b: int) -> int:
        assert len(gp.hubs()) == n
        assert gp.hubs()[0] is this_hub()
        for hub in gp.hubs():
            ran_in.append(gp.spawn_on(hub, threading.current_thread).result().name)
        return a + b

    before = threading.active_count()
    assert gp.run(main, 2, b=3, hubs=n) == 5
    assert ran_in == ["MainThread", *(f"hub-{k}" for k in range(2, n + 1))]
    assert threading.active_count() == before
    assert hub_or_none() is None
    assert fleet == []
    assert hubs == []


def test_run_twice_and_implicit_hubs_in_between() -> None:
    for _ in range(3):
        assert gp.run(lambda: gp.spawn(int).result(), hubs=2) == 0
        assert gp.spawn(int).result() == 0
        gp.sleep(1e-6)


def test_run_raises_what_main_raises() -> None:
    class Boom(Exception):
        pass

    def main() -> None:
        raise Boom

    for n in (1, 2):
        with pytest.raises(Boom):
            gp.run(main, hubs=n)
        assert fleet == []


def test_a_run_inside_another_is_refused(hub: Hub) -> None:
    def nested() -> None:
        with pytest.raises(RuntimeError, match=r"inside another run\(\), that of MainThread"):
            gp.run(int)
        with pytest.raises(RuntimeError, match="inside a task"):
            gp.spawn(gp.run, int).result()
        with pytest.raises(RuntimeError, match="inside a task"):
            gp.spawn_on(gp.hubs()[-1], gp.run, int).result()
        assert len(gp.hubs()) == 2

    gp.run(nested, hubs=2)
    with pytest.raises(RuntimeError, match="inside a task"):
        gp.spawn(gp.run, int).result()


def test_a_run_beside_another_is_refused() -> None:
    errors: list[str] = []

    def other() -> None:
        try:
            gp.run(int)
        except RuntimeError as error:
            errors.append(str(error))
        this_hub().close()

    def main() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    gp.run(main)
    assert len(errors) == 1
    assert "a process has one at a time" in errors[0]


@pytest.mark.parametrize(
    ("fn", "n", "kind", "message"),
    [
        (int, 0, ValueError, "at least one hub: hubs=0"),
        (int, "2", TypeError, "as an integer"),
        (int, 1.5, TypeError, "as an integer"),
        (5, 1, TypeError, "run needs a callable, not 5"),
    ],
)
def test_run_with_nonsense(fn: Any, n: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        gp.run(fn, hubs=n)
    assert fleet == []


def test_run_in_a_thread() -> None:
    found = []

    def thread() -> None:
        found.append(gp.run(lambda: [hub.thread.name for hub in gp.hubs()], hubs=2))

    runner = threading.Thread(target=thread, name="runner")
    runner.start()
    runner.join()
    assert found == [["runner", "hub-2"]]


def test_a_full_fd_table_is_an_error_at_the_caller(program: Program) -> None:
    ended = program(
        """
        import os, resource
        import greenpump as gp
        from greenpump.hub.local import fleet
        gp.sleep(0)
        before = sorted(os.listdir("/proc/self/fd"))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for room in range(9):
            resource.setrlimit(resource.RLIMIT_NOFILE, (20 + room, hard))
            filler = []
            while len(os.listdir("/proc/self/fd")) + room < 20 + room:
                filler.append(os.dup(0))
            try:
                gp.run(lambda: gp.spawn_on(gp.hubs()[-1], int).result(), hubs=3)
                print(room, "ran")
            except OSError as error:
                print(room, error.strerror)
            assert fleet == []
            for fd in filler:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert gp.spawn(int).result() == 0
        assert sorted(os.listdir("/proc/self/fd")) == before
        """
    )
    assert ended.stderr == ""
    said = [line.split(maxsplit=1)[1] for line in ended.stdout.splitlines()]
    assert "ran" in said
    assert "epoll_create1: Too many open files" in said
    assert "timerfd_create: Too many open files (clock 1)" in said


# -- the end --------------------------------------------------------------------------------------


def test_all_tasks_are_cancelled_and_waited_for() -> None:
    log: list[str] = []

    def worker(name: str, cleaning: float) -> None:
        try:
            gp.sleep(math.inf)
        finally:
            with gp.shield():
                gp.sleep(cleaning)
            log.append(name)

    def main() -> None:
        here, there = two_hubs()
        gp.spawn_on(here, worker, "here", 0.002)
        gp.spawn_on(there, worker, "there", 0.001)
        gp.spawn_on(there, worker, "there, later", 0.004)
        for hub in (here, there):
            gp.spawn_on(hub, gp.yield_now).join()

    gp.run(main, hubs=2)
    assert sorted(log) == ["here", "there", "there, later"]


def test_clean_up_may_need_the_other_hub() -> None:
    # Each task's clean-up waits for one of the other hub, which has its own end behind it by then.
    log: list[str] = []

    def first_to_end(event: gp.Event) -> None:
        try:
            gp.sleep(math.inf)
        finally:
            with gp.shield():
                event.wait(LONG)
            log.append("first")

    def second(event: gp.Event, other: Hub) -> None:
        try:
            gp.sleep(math.inf)
        finally:
            with gp.shield():
                gp.sleep(0.002)
                gp.spawn_on(other, event.set).join(LONG)
            log.append("second")

    def main() -> None:
        here, there = two_hubs()
        for one, other in ((here, there), (there, here)):
            event = gp.Event()
            gp.spawn_on(one, first_to_end, event)
            gp.spawn_on(other, second, event, one)
        for hub in (here, there):
            gp.spawn_on(hub, gp.yield_now).join()

    gp.run(main, hubs=2)
    assert sorted(log) == ["first", "first", "second", "second"]


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("raises", [False, True])
def test_a_task_that_never_ends_is_named(
    n: int, raises: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "END_GRACE", 0.02)
    unwound: list[str] = []

    def stubborn() -> None:
        try:
            with gp.shield():
                gp.sleep(math.inf)
        finally:
            unwound.append("stubborn")

    def main() -> None:
        task = gp.spawn_on(gp.hubs()[-1], stubborn)
        task.name = "the stubborn one"
        gp.spawn_on(gp.hubs()[-1], gp.yield_now).join()
        if raises:
            raise KeyError("main's own")

    expected = KeyError if raises else gp.HubError
    with pytest.raises(expected) as caught:
        gp.run(main, hubs=n)
    said = "\n".join(caught.value.__notes__) if raises else str(caught.value)
    assert "task the stubborn one was cancelled, 0.02 s ago" in said
    assert "and has not ended: sleep; it was spawned at" in said
    assert f"spawned at {__file__}:" in said
    assert unwound == ["stubborn"]
    assert fleet == []


def test_a_task_that_holds_its_thread_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "END_GRACE", 0.02)
    monkeypatch.setattr(threads, "_END_MARGIN", 0.02)
    started, go = threading.Event(), threading.Event()
    ended: list[Task[Any]] = []

    def blocking() -> None:
        started.set()
        go.wait()

    def main() -> None:
        ended.append(gp.spawn_on(gp.hubs()[1], blocking))
        ended[0].name = "the blocking one"
        started.wait()

    with pytest.raises(gp.HubError, match="task the blocking one holds it and does not park"):
        gp.run(main, hubs=2)
    assert fleet == []
    assert gp.run(int, hubs=2) == 0
    # When it lets go at last, its hub closes.
    held = next(thread for thread in threading.enumerate() if thread.name == "hub-2")
    go.set()
    held.join()
    assert ended[0].done
    assert [hub.thread for hub in hubs if hub.thread is held] == []


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, gp.HubError])
def test_what_ends_the_program_on_another_hub_is_raised_in_main(kind: type[BaseException]) -> None:
    error = kind(3)
    cleaned = []

    def main() -> None:
        there = gp.hubs()[1]

        def ending() -> None:
            if kind is gp.HubError:
                there.post(lambda: there.to_main(error))
            else:
                raise error

        gp.spawn_on(there, ending)
        try:
            gp.sleep(math.inf)
        finally:
            cleaned.append(True)

    with pytest.raises(kind) as caught:
        gp.run(main, hubs=2)
    assert caught.value is error
    assert cleaned == [True]


@pytest.mark.parametrize("n", [1, 2])
def test_system_exit_while_the_others_end_is_raised_by_run(n: int) -> None:
    error = SystemExit(7)
    log = []

    def exits() -> None:
        try:
            gp.sleep(math.inf)
        finally:
            raise error

    def slow() -> None:
        try:
            gp.sleep(math.inf)
        finally:
            with gp.shield():
                gp.sleep(0.005)
            log.append("waited for")

    def main() -> None:
        for hub in gp.hubs():
            gp.spawn_on(hub, slow)
        gp.spawn_on(gp.hubs()[-1], exits)
        for hub in gp.hubs():
            gp.spawn_on(hub, gp.yield_now).join()

    with pytest.raises(SystemExit) as caught:
        gp.run(main, hubs=n)
    assert caught.value is error
    assert log == ["waited for"] * n
    assert fleet == []


@pytest.mark.parametrize("n", [1, 2])
def test_another_ctrl_c_ends_the_wait_for_the_others(n: int, hub: Hub) -> None:
    def stubborn() -> None:
        with gp.shield():
            gp.sleep(math.inf)

    def press_again() -> None:
        try:
            gp.sleep(math.inf)
        finally:
            hub.post(lambda: hub.to_main(KeyboardInterrupt()))

    def main() -> None:
        gp.spawn_on(gp.hubs()[-1], stubborn)
        gp.spawn_on(gp.hubs()[-1], gp.yield_now).join()
        gp.spawn(press_again)
        wait_all_parked()

    with pytest.raises(KeyboardInterrupt) as caught:
        gp.run(main, hubs=n)
    notes = "\n".join(caught.value.__notes__)
    assert "stubborn" in notes
    assert "or before another Ctrl-C, and has not ended: sleep" in notes
    assert fleet == []


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("gp.spawn_on(gp.hubs()[1], sys.exit, 3); gp.sleep(100)", 3, ""),
        ("gp.spawn_on(gp.hubs()[1], sys.exit, 'sorry'); gp.sleep(100)", 1, "sorry\n"),
        ("gp.spawn(sys.exit, 4); gp.sleep(100)", 4, ""),
        ("gp.spawn_on(gp.hubs()[1], sys.exit, 5).join(); print('on')", 5, ""),
        ("sys.exit(6)", 6, ""),
        ("gp.spawn_on(gp.hubs()[1], sys.exit, 0).join(); gp.sleep(1)", 0, ""),
    ],
)
def test_the_exit_status(body: str, code: int, said: str, program: Program) -> None:
    ended = program(
        f"""
        import sys
        import greenpump as gp
        def main():
            gp.spawn_on(gp.hubs()[1], gp.sleep, 1000)
            {body}
        gp.run(main, hubs=2)
        """
    )
    assert (ended.returncode, ended.stderr) == (code, said)


@pytest.mark.parametrize("where", ["parked", "computing", "computing elsewhere"])
def test_ctrl_c_ends_everything_in_order(where: str, program: Program) -> None:
    ended = program(
        """
        import os, signal, sys, threading, time
        import greenpump as gp
        log = []
        def worker(name):
            try:
                gp.sleep(1000)
            finally:
                with gp.shield():
                    gp.sleep(0.001)
                log.append(name)
        def kill():
            os.kill(os.getpid(), signal.SIGINT)
        def compute(stop):
            while not stop:
                sum(range(1000))
        def main():
            for hub in gp.hubs():
                gp.spawn_on(hub, worker, hub.thread.name)
                gp.spawn_on(hub, gp.yield_now).join()
            threading.Timer(0.02, kill).start()
            stop = []
            try:
                if sys.argv[1] == "computing":
                    compute(stop)
                elif sys.argv[1] == "computing elsewhere":
                    gp.spawn_on(gp.hubs()[1], compute, stop).join()
                gp.sleep(1000)
            finally:
                stop.append(1)
                log.append("main")
        try:
            gp.run(main, hubs=2)
        except KeyboardInterrupt:
            log.append("interrupted")
        print(log[0], sorted(log[1:-1]), log[-1])
        """,
        where,
    )
    assert ended.stderr == ""
    assert ended.stdout == "main ['MainThread', 'hub-2'] interrupted\n"


def test_ctrl_c_that_nobody_catches_has_the_status_of_the_signal(program: Program) -> None:
    ended = program(
        """
        import os, signal, threading
        import greenpump as gp
        def main():
            threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
            gp.spawn_on(gp.hubs()[1], gp.sleep, 1000).join()
        gp.run(main, hubs=2)
        """
    )
    assert ended.returncode == -2
    assert ended.stderr.endswith("KeyboardInterrupt\n")


# -- deadlocks of a fleet -------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_fleet_that_sleeps_for_ever_is_a_deadlock(n: int) -> None:
    def main() -> list[str]:
        never = gp.Event()
        tasks = [gp.spawn_on(hub, never.wait) for hub in gp.hubs()]
        reports = []
        for _ in range(2):
            with pytest.raises(gp.Deadlock) as caught:
                tasks[-1].join()
            reports.append(str(caught.value))
        return reports

    for report in gp.run(main, hubs=n):
        assert report.count("wait for <Event") == n
        assert report.count("hub of ") == n


@pytest.mark.parametrize("hope", ["timer", "fd", "thread", "externals"])
def test_a_hope_of_any_hub_is_a_hope_of_all(hope: str) -> None:
    def main() -> None:
        here, there = two_hubs()
        event, go = gp.Event(), threading.Event()
        left, right = gp.socketpair()

        def offloaded() -> None:
            there.externals += 1
            try:
                gp.sleep(math.inf)
            finally:
                there.externals -= 1

        def rescue() -> None:
            while PATIENCE_MS in (here.idle_ms, there.idle_ms):
                time.sleep(0.001)  # until both have slept in vain, and asked themselves why
            event.set()

        thread = threading.Thread(target=go.wait)
        if hope == "thread":
            thread.start()
        hopes: dict[str, Callable[[], object]] = {
            "timer": lambda: gp.sleep(LONG),
            "fd": lambda: left.recv(1),
            "thread": lambda: gp.sleep(math.inf),
            "externals": offloaded,
        }
        task = gp.spawn_on(there, hopes[hope])
        onlooker = Bystander(target=rescue)
        with left, right:
            onlooker.start()
            assert event.wait()
            onlooker.join()
            task.cancel()
            task.join()
        if hope == "thread":
            go.set()
            thread.join()

    gp.run(main, hubs=2)


def test_the_last_other_thread_ends_and_leaves_a_deadlock() -> None:
    thread = threading.Thread(target=time.sleep, args=(0.12,))
    thread.start()
    with pytest.raises(gp.Deadlock):
        gp.Event().wait()
    thread.join()


def test_hubs_that_wake_each_other_slowly_are_no_deadlock() -> None:
    # Each sleeps past its patience before the other, held without a park, wakes it.
    def main() -> int:
        here, there = two_hubs()
        ball, bat = gp.Event(), gp.Event()

        def slow(mine: gp.Event, other: gp.Event) -> None:
            for _ in range(4):
                mine.wait()
                mine.clear()
                time.sleep(0.06)
                other.set()

        ball.set()
        tasks = [gp.spawn_on(here, slow, ball, bat), gp.spawn_on(there, slow, bat, ball)]
        for task in tasks:
            task.join()
        return len(tasks)

    assert gp.run(main, hubs=2) == 2


def test_a_bystander_is_no_hope_of_a_fleet() -> None:
    go = threading.Event()
    thread = Bystander(target=go.wait)
    thread.start()
    with pytest.raises(gp.Deadlock):
        gp.run(lambda: gp.spawn_on(gp.hubs()[1], gp.sleep, math.inf).join(), hubs=2)
    go.set()
    thread.join()


# -- sockets between hubs -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 65_536])
def test_a_socketpair_is_used_from_two_hubs_in_both_directions(size: int) -> None:
    rounds = 2000 if size == 1 else 50

    def main() -> None:
        here, there = two_hubs()
        left, right = gp.socketpair()
        message = bytes(size)

        def sender(sock: socket.socket) -> None:
            for _ in range(rounds):
                sock.sendall(message)

        def receiver(sock: gp.Socket) -> int:
            return sum(len(sock.recv_exactly(size)) for _ in range(rounds))

        with left, right:
            # Each end is read on one hub and written on the other: whoever comes second is remote.
            tasks: list[Task[Any]] = [
                gp.spawn_on(here, sender, left),
                gp.spawn_on(there, receiver, right),
                gp.spawn_on(there, sender, right),
                gp.spawn_on(here, receiver, left),
                gp.spawn_on(there, gp.yield_now),
            ]
            found = [task.result(LONG) for task in tasks]
            assert found == [None, size * rounds, None, size * rounds, None]
            crossed = [
                gp.spawn_on(there, sender, left),
                gp.spawn_on(here, receiver, right),
                gp.spawn_on(here, sender, right),
                gp.spawn_on(there, receiver, left),
            ]
            assert [task.result(LONG) for task in crossed] == [None, size * rounds] * 2

    gp.run(main, hubs=2)


def test_tasks_of_two_hubs_read_one_socket_and_nothing_is_lost() -> None:
    def main() -> None:
        left, right = gp.socketpair()
        got: list[int] = []
        messages = 3000

        def reader() -> None:
            while True:
                data = right.recv(1)
                if not data:
                    return
                got.append(1)

        with left, right:
            readers = [gp.spawn_on(hub, reader) for hub in gp.hubs() for _ in range(5)]
            for n in range(messages):
                left.send(b"x")
                if n % 100 == 0:
                    gp.yield_now()
            left.shutdown(socket.SHUT_WR)
            for task in readers:
                task.result(LONG)
        assert len(got) == messages

    gp.run(main, hubs=2)


def test_a_close_from_another_hub_wakes_who_waits() -> None:
    def main() -> None:
        here, there = two_hubs()
        for n in range(200):
            left, right = gp.socketpair()
            owner, other = (here, there) if n % 2 else (there, here)

            def reader(sock: gp.Socket = left) -> str:
                try:
                    sock.recv(1)
                except OSError as error:
                    return str(error.errno)
                return "read"

            tasks = [gp.spawn_on(owner, reader), gp.spawn_on(other, reader)]
            for hub in (owner, other):
                gp.spawn_on(hub, gp.yield_now).join()
            gp.spawn_on(other, left.close).join()
            assert [task.result(LONG) for task in tasks] == ["9", "9"]
            right.close()

    gp.run(main, hubs=2)


def test_the_waiters_of_a_hub_that_ends_wait_on_at_home() -> None:
    left, right = gp.socketpair()
    up, go = threading.Event(), threading.Event()

    def owner() -> None:
        task = gp.spawn(left.recv, 1)  # registers it here
        wait_all_parked()  # not a yield: the first attempt of a socket may be one, too
        task.cancel()
        task.join()
        up.set()
        while not this_hub().inbox:
            pass
        gp.yield_now()  # seats the other's waiter
        go.wait()

    thread = threading.Thread(target=owner)
    thread.start()
    up.wait()
    with left, right:
        task = gp.spawn(left.recv, 1)
        wait_all_parked()
        go.set()
        thread.join()
        right.send(b"x")
        assert task.result(LONG) == b"x"


# -- threads that come and go ---------------------------------------------------------------------


def in_thread(fn: Callable[[], object]) -> None:
    thread = threading.Thread(target=fn)
    thread.start()
    thread.join()


def rss_kb() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def parked_tasks() -> None:
    gp.spawn(gp.sleep, math.inf)
    gp.spawn(gp.Event().wait)
    gp.sleep(0)


@pytest.mark.parametrize(
    "use",
    [
        lambda: gp.sleep(0),
        lambda: gp.spawn(int).join(),
        parked_tasks,
        lambda: gp.spawn(int),
        lambda: gp.run(gp.yield_now),
    ],
    ids=["sleep", "spawn", "parked tasks", "an unstarted task", "run"],
)
def test_a_thousand_threads_leave_nothing(use: Callable[[], object]) -> None:
    for _ in range(50):
        in_thread(use)
    gc.collect()
    fds = len(os.listdir("/proc/self/fd"))
    growth = []
    for _ in range(4):
        before = rss_kb()
        for _ in range(250):
            in_thread(use)
        gc.collect()
        growth.append(rss_kb() - before)
    assert len(os.listdir("/proc/self/fd")) == fds
    assert len(hubs) == 1  # this test's
    # A hub and its greenlets that stay take 20 KB a thread, each time. The allocator of a build
    # without the GIL takes a few MB once, for the heaps of the first threads.
    assert min(growth) < 1250, growth
    # What is left of a thread's locals is seen best by what refers to them.
    again = Counter(type(obj).__name__ for obj in gc.get_objects())
    for _ in range(100):
        in_thread(use)
    gc.collect()
    more = Counter(type(obj).__name__ for obj in gc.get_objects()) - again
    assert max(more.values(), default=0) < 50, more


def test_a_thread_that_ends_unwinds_its_parked_tasks() -> None:
    log = []

    def stay() -> None:
        try:
            gp.sleep(math.inf)
        finally:
            log.append("unwound")

    def thread() -> None:
        gp.spawn(stay)
        gp.yield_now()

    in_thread(thread)
    assert log == ["unwound"]


def test_a_program_that_ends_with_tasks_everywhere_is_clean(program: Program) -> None:
    ended = program(
        """
        import math, sys, threading
        sys.dont_write_bytecode = True
        import greenpump as gp
        up = threading.Barrier(3)
        def use(n, stay):
            left, right = gp.socketpair()
            for _ in range(n):
                gp.spawn(gp.sleep, math.inf)
                gp.spawn(left.recv, 1)
            gp.spawn(gp.sleep, 0).join()
            up.wait()
            if stay:
                gp.sleep(math.inf)
            left.close(); right.close()
        threading.Thread(target=use, args=(5, False)).start()
        threading.Thread(target=use, args=(5, True), daemon=True).start()
        gp.spawn(gp.sleep, math.inf)
        gp.sleep(0)
        up.wait()
        """,
        flags=["-X", "dev", "-W", "error"],
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_what_comes_to_a_hub_that_has_ended_its_own_tasks_is_cancelled_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A task that ends last spawns on the hub that is ready, and on ANY, which is that one, too."""
    end_tasks = threads._end_tasks
    other_has_ended = threading.Event()
    spawned: list[gp.Task[None]] = []

    def told(hub: Hub, limit: int, tell: Callable[[BaseException], None]) -> bool:
        try:
            return end_tasks(hub, limit, tell)
        finally:
            if hub is not first:
                other_has_ended.set()

    def with_last_words() -> None:
        try:
            gp.sleep(1000)
        finally:
            assert other_has_ended.wait(10)
            spawned.append(gp.spawn_on(gp.hubs()[1], gp.sleep, 1000))
            spawned.append(gp.spawn_on(gp.ANY, gp.sleep, 1000))

    def main() -> None:
        gp.spawn(with_last_words)
        gp.yield_now()

    first = this_hub()
    monkeypatch.setattr(threads, "_end_tasks", told)
    gp.run(main, hubs=2)
    assert [task.cancelled for task in spawned] == [True, True]


def test_what_has_not_started_when_main_returns_is_cancelled_wherever_it_is() -> None:
    tasks: list[gp.Task[None]] = []

    def main() -> None:
        tasks.extend(gp.spawn_on(gp.ANY, gp.sleep, 1000) for _ in range(40))

    for _ in range(20):
        gp.run(main, hubs=4)
    assert all(task.cancelled for task in tasks)
