"""virtual_clock: it jumps to the next deadline only when nothing else can happen."""

from __future__ import annotations

import signal
import socket
import threading
import time
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub.deadlock import wakes_nobody
from greenpump.hub.hub import PATIENCE_MS
from greenpump.hub.local import this_hub
from greenpump.hub.pollable import READ, Pollable
from greenpump.testing import virtual_clock, wait_all_parked

HOUR = 3600.0


def test_an_hour_of_sleep_takes_no_time() -> None:
    started = time.monotonic()
    with virtual_clock() as clock:
        before = clock.now()
        gp.sleep(HOUR)
        assert clock.now() - before == pytest.approx(HOUR, abs=1e-6)
    assert time.monotonic() - started < 60


def test_sleepers_wake_in_the_order_of_their_deadlines_at_exactly_those_times() -> None:
    with virtual_clock() as clock:
        start = clock.now()
        woke = []

        def sleeper(seconds: float) -> None:
            gp.sleep(seconds)
            woke.append((seconds, round(clock.now() - start, 6)))

        for seconds in (30, 0.001, 7, 7.5, 0):
            gp.spawn(sleeper, seconds)
        gp.sleep(31)
    assert woke == [(0, 0), (0.001, 0.001), (7, 7), (7.5, 7.5), (30, 30)]


def test_the_clock_stands_still_while_tasks_run() -> None:
    with virtual_clock() as clock:
        sleeper = gp.spawn(gp.sleep, 0.001)
        before = clock.now()
        for _ in range(200):
            gp.yield_now()
        assert clock.now() == before
        assert not sleeper.done
        sleeper.join()
        assert clock.now() > before


def test_as_a_decorator() -> None:
    @virtual_clock()
    def half_a_minute() -> float:
        gp.sleep(30)
        return 30.0

    assert half_a_minute() == half_a_minute() == 30.0
    assert this_hub().autojump is None


def test_a_clock_inside_another_is_refused_and_the_outer_one_goes_on() -> None:
    with virtual_clock() as clock:
        with pytest.raises(RuntimeError, match="already"), virtual_clock():
            pass
        before = clock.now()
        gp.sleep(5)
        assert clock.now() - before == pytest.approx(5)


def test_real_time_and_patience_are_back_afterwards_also_after_an_error() -> None:
    hub = this_hub()
    with pytest.raises(ZeroDivisionError), virtual_clock():
        gp.sleep(HOUR / 0)
    with virtual_clock():
        gp.sleep(HOUR)
    assert hub.autojump is None
    assert hub.timers.clock is time.monotonic_ns
    assert hub.patience == hub.idle_ms == PATIENCE_MS
    before = time.monotonic_ns()
    gp.sleep(0.002)
    assert time.monotonic_ns() - before >= 2_000_000


def test_a_deadline_from_before_is_kept() -> None:
    task = gp.spawn(gp.sleep, HOUR)
    gp.yield_now()
    with virtual_clock() as clock:
        before = clock.now()
        task.join()
        assert clock.now() - before == pytest.approx(HOUR, abs=10)


def test_the_timerfd_is_not_armed_with_virtual_times(monkeypatch: pytest.MonkeyPatch) -> None:
    armed: list[int] = []
    with virtual_clock():
        timerfd = this_hub().timers.timerfd
        monkeypatch.setattr(type(timerfd), "arm", lambda self, when: armed.append(when))
        gp.sleep(HOUR)
        with pytest.raises(TimeoutError), gp.timeout(3):
            gp.sleep(4)
    assert armed == []


def test_timeouts_of_scopes_and_joins() -> None:
    with virtual_clock() as clock:
        before = clock.now()
        sleeper = gp.spawn(gp.sleep, 100)
        assert sleeper.join(30) is False
        with pytest.raises(TimeoutError), gp.timeout(30):
            sleeper.join()
        with gp.move_on_after(30) as scope:
            sleeper.join()
        assert scope.expired
        assert clock.now() - before == pytest.approx(90)
        assert sleeper.join(30) is True


def test_ready_fds_come_before_the_jump() -> None:
    left, right = socket.socketpair()
    pollable = Pollable(left.fileno())
    pollable.readable = 0
    with left, right, virtual_clock() as clock:
        before = clock.now()
        seen = []

        def reader() -> None:
            assert pollable.wait(READ, this_hub().timers.after(1))
            seen.append(clock.now() - before)

        task = gp.spawn(reader)
        wait_all_parked()
        right.send(b"x")
        gp.sleep(5)
        task.join()
        pollable.close()
    assert seen == [0.0]


def test_what_arrives_late_over_loopback_comes_before_the_jump() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    pollable = Pollable(server.fileno())
    with listener, client, server, virtual_clock() as clock:
        before = clock.now()
        for _ in range(20):
            pollable.readable = 0
            client.send(b"x")
            assert pollable.wait(READ, this_hub().timers.after(1))
            server.recv(100)
        assert clock.now() == before
        pollable.close()


def test_no_jump_while_held_for_another_thread() -> None:
    with virtual_clock() as clock:
        before = clock.now()
        task = gp.spawn(gp.sleep, HOUR)
        wait_all_parked()
        done = gp.spawn(gp.sleep, float("inf"))
        wait_all_parked()
        thread = threading.Thread(target=done.cancel)
        with clock.held():
            thread.start()
            done.join(1)
        assert done.done
        assert clock.now() == before
        thread.join()
        task.join()
        assert clock.now() - before == pytest.approx(HOUR)


def test_advance_makes_deadlines_pass_at_the_next_park() -> None:
    with virtual_clock() as clock:
        order = []

        def sleeper(seconds: float) -> None:
            gp.sleep(seconds)
            order.append(seconds)

        late, later = gp.spawn(sleeper, 5), gp.spawn(sleeper, 50)
        wait_all_parked()
        before = clock.now()
        clock.advance(10)
        assert clock.now() - before == pytest.approx(10)
        assert not late.done
        wait_all_parked()
        assert order == [5]
        clock.advance(0)
        wait_all_parked()
        assert not later.done
        later.join()
        assert clock.now() - before == pytest.approx(50)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_advance_refuses(seconds: float) -> None:
    with virtual_clock() as clock:
        before = clock.now()
        with pytest.raises(ValueError, match=r"time|moved"):
            clock.advance(seconds)
        assert clock.now() == before


def test_a_deadlock_is_still_one() -> None:
    handler: Any = signal.getsignal(signal.SIGALRM)  # pytest-timeout's: it is no hope
    wakes_nobody(handler)
    with virtual_clock():
        task = gp.spawn(gp.sleep, float("inf"))
        with pytest.raises(gp.Deadlock):
            task.join()
        task.cancel()
        task.join()


def test_ten_thousand_jumps_cost_no_real_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = this_hub()
    waits: list[int] = []
    poll = type(hub.epoll).poll

    def note(self: Any, timeout_ms: int) -> list[int]:
        waits.append(timeout_ms)
        return poll(self, timeout_ms)

    monkeypatch.setattr(type(hub.epoll), "poll", note)
    with virtual_clock():
        for _ in range(10_000):
            gp.sleep(1)
    assert set(waits) == {0}
