"""Time is passed to ``sample`` by hand; the task that calls it is the one that holds the hub."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import greenpump as gp
from greenpump.debug.watchdog import Hold, Watchdog, watchdog
from greenpump.hub.local import this_hub

MS = 1_000_000


class Kennel:
    """A watchdog with a limit of 100 ms and a clock of its own, and what it reported."""

    def __init__(self) -> None:
        self.holds: list[Hold] = []
        self.dog = Watchdog(0.1, self.holds.append)
        self.now = 0

    def look(self, ms: int = 0) -> list[float]:
        """Look ``ms`` later; the seconds of all reports so far."""
        self.now += ms * MS
        self.dog.sample(self.now)
        return [hold.seconds for hold in self.holds]


@pytest.fixture
def kennel() -> Kennel:
    this_hub()
    return Kennel()


@pytest.fixture
def company() -> object:
    """Another task of this hub, parked: somebody who is kept waiting."""
    task = gp.spawn(gp.sleep, 1000)
    gp.yield_now()
    yield task
    task.cancel()
    task.join()


def test_a_hold_is_reported_once_and_at_each_doubling(kennel: Kennel, company: object) -> None:
    assert kennel.look() == []
    assert kennel.look(99) == []
    assert kennel.look(1) == [0.1]
    assert kennel.look(99) == [0.1]
    assert kennel.look(1) == [0.1, 0.2]
    assert kennel.look(199) == [0.1, 0.2]
    assert kennel.look(1) == [0.1, 0.2, 0.4]
    # One that was looked at late is reported once, and next at the doubling that lies ahead.
    assert kennel.look(1500) == [0.1, 0.2, 0.4, 1.9]
    assert kennel.look(1299) == [0.1, 0.2, 0.4, 1.9]
    assert kennel.look(1) == [0.1, 0.2, 0.4, 1.9, 3.2]


def test_a_park_ends_the_hold(kennel: Kennel, company: object) -> None:
    kennel.look()
    kennel.look(99)
    gp.yield_now()
    assert kennel.look(99) == []
    assert kennel.look(99) == []
    assert kennel.look(1) == [0.1]


@pytest.mark.parametrize("parks", range(1, 200, 7))
def test_any_number_of_parks_between_two_looks_is_seen(
    kennel: Kennel, company: object, parks: int
) -> None:
    kennel.look()
    for _ in range(parks):
        gp.yield_now()
    assert kennel.look(1000) == []


def test_one_quota_of_parks_is_seen(kennel: Kennel, company: object) -> None:
    """After exactly as many parks as make a poll the quota is the same again."""
    hub = this_hub()
    gp.yield_now()
    kennel.look()
    quota, polls = hub.quota, hub.polls
    gp.yield_now()
    while hub.quota != quota:
        gp.yield_now()
    assert hub.polls > polls
    assert kennel.look(1000) == []


def test_the_report(kennel: Kennel) -> None:
    def hog() -> None:
        kennel.look()
        kennel.look(123)

    task = gp.spawn(hog)
    gp.sleep(0)
    [hold] = kennel.holds
    assert hold.task is task
    assert hold.seconds == 0.123
    text = str(hold)
    assert text.startswith(
        f"task {task.name} has held the hub of MainThread for 0.123 s\n  spawned at {__file__}:"
    )
    assert "in hog\n    kennel.look(123)" in text


def test_a_task_that_took_over_starts_anew(kennel: Kennel) -> None:
    first = gp.spawn(kennel.look)
    second = gp.spawn(kennel.look, 1000)
    second.join()
    first.join()
    assert kennel.holds == []


def test_a_hub_asleep_is_not_held(kennel: Kennel, company: object) -> None:
    a, b = gp.socketpair()
    hub = this_hub()

    def meanwhile() -> None:
        deadline = time.monotonic() + 30
        while not hub.sleeping and time.monotonic() < deadline:
            time.sleep(0)
        seen.append(hub.sleeping)
        kennel.look()
        seen.append(kennel.look(10_000))
        b.send(b"x")

    seen: list[object] = []
    thread = threading.Thread(target=meanwhile)
    with a, b:
        thread.start()
        assert a.recv(1) == b"x"
        thread.join()
    assert seen == [True, []]


def test_a_main_task_alone_holds_nobody_up(kennel: Kennel) -> None:
    kennel.look()
    assert kennel.look(10_000) == []
    # And one that is joined by the main task, which waits for nothing else.
    task = gp.spawn(lambda: (kennel.look(), kennel.look(10_000)))
    task.join()
    assert kennel.holds == []


def test_somebody_who_comes_later_is_held_up(kennel: Kennel) -> None:
    kennel.look()
    assert kennel.look(10_000) == []
    task = gp.spawn(int)
    assert kennel.look(1) == [10.001]
    task.join()


def test_greenlets_of_the_program_inside_a_task(kennel: Kennel, company: object) -> None:
    """Switching among them is no park: the hub is held, and the stack is the inner one's."""
    from greenlet import greenlet

    def inside() -> None:
        kennel.look(100)

    def outside() -> None:
        kennel.look()
        greenlet(inside).switch()

    gp.spawn(outside).join()
    [hold] = kennel.holds
    assert "in inside" in hold.stack


def test_it_goes_to_the_log(caplog: pytest.LogCaptureFixture, company: object) -> None:
    dog = Watchdog(0.1)
    dog.sample(0)
    dog.sample(100 * MS)
    [record] = caplog.records
    assert (record.name, record.levelno) == ("greenpump.watchdog", logging.WARNING)
    assert "has held the hub of MainThread for 0.100 s" in record.message


def test_a_report_that_fails_is_logged_and_not_the_last(
    caplog: pytest.LogCaptureFixture, company: object
) -> None:
    reports = []

    def report(hold: Hold) -> None:
        reports.append(hold)
        raise ZeroDivisionError("oh dear")

    dog = Watchdog(0.1, report)
    for now in (0, 100, 200):
        dog.sample(now * MS)
    assert len(reports) == 2
    assert "ZeroDivisionError: oh dear" in caplog.text


@pytest.mark.parametrize("limit", [0, -1, float("nan"), float("inf")])
def test_bad_limits(limit: float) -> None:
    with pytest.raises(ValueError, match="positive number of seconds"):
        watchdog(limit)


def test_bad_arguments() -> None:
    with pytest.raises(TypeError):
        watchdog("1")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callable"):
        watchdog(1, "log")  # type: ignore[arg-type]


def test_the_thread_finds_a_task_that_computes(company: object) -> None:
    holds: list[Hold] = []

    def note(hold: Hold) -> None:
        # A loaded machine may hold up others, too: main while it starts the watchdog's thread.
        if hold.task is computing:
            holds.append(hold)

    def compute() -> None:
        give_up = time.monotonic() + 30
        while not holds and time.monotonic() < give_up:
            sum(range(1000))

    computing = gp.spawn(compute)
    with watchdog(0.004, note) as dog:
        computing.join()
    assert len(holds) >= 1
    assert holds[0].seconds >= 0.004
    assert "in compute" in holds[0].stack
    dog.stop()  # again


def test_stopped_from_within_its_report(company: object) -> None:
    told = threading.Event()

    def report(hold: Hold) -> None:
        dog.stop()
        told.set()

    dog = Watchdog(0.004, report)
    dog.start()
    thread = dog._thread
    assert thread is not None
    told.wait(30)  # blocks the thread, with company waiting: a hold
    thread.join(30)
    assert not thread.is_alive()


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_it_neither_keeps_the_process_alive_nor_hides_a_deadlock() -> None:
    done = run("""
        import signal, math
        import greenpump as gp
        from greenpump.debug.dump import dump_on_signal
        from greenpump.debug.watchdog import watchdog
        watchdog(0.01)
        dump_on_signal()
        try:
            gp.sleep(math.inf)
        except gp.Deadlock:
            print("found it")
        """)
    assert (done.stdout, done.stderr, done.returncode) == ("found it\n", "", 0)


def test_a_forked_child_has_its_own() -> None:
    done = run("""
        import os, time, warnings
        import greenpump as gp
        from greenpump.debug.watchdog import watchdog
        warnings.simplefilter("ignore")
        holds = []
        with watchdog(0.004, holds.append):
            gp.spawn(gp.sleep, 1000)
            gp.sleep(0)
            pid = os.fork()
            holds.clear()
            give_up = time.monotonic() + 20
            while not holds and time.monotonic() < give_up:
                pass
        if pid == 0:
            os._exit(7 if holds else 8)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), len(holds) > 0)
        """)
    assert (done.stdout, done.stderr) == ("7 True\n", "")
