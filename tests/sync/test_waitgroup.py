"""WaitGroup: by Go's rules."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenpump as gp
from greenpump.hub.local import hub_or_none, this_hub
from greenpump.sync.waitgroup import WaitGroup
from greenpump.testing import virtual_clock, wait_all_parked


def is_empty(group: WaitGroup) -> bool:
    return not group._count and not group._line and not group._granted


# -- one rule after the other --------------------------------------------------------------------


def test_wait_ends_when_all_are_done() -> None:
    group = WaitGroup()
    group.add(2)
    waiters = [gp.spawn(group.wait) for _ in range(3)]
    wait_all_parked()
    group.done()
    wait_all_parked()
    assert not any(task.done for task in waiters)
    assert repr(group).endswith(": 1 not done, 3 waiting>")
    group.done()
    assert all(task.result() for task in waiters)
    assert is_empty(group)


def test_with_nothing_to_wait_for_it_needs_no_hub() -> None:
    found = []

    def thread() -> None:
        group = WaitGroup()
        group.add()
        group.done()
        found.append((group.wait(), group.wait(0), hub_or_none()))

    runner = threading.Thread(target=thread)
    runner.start()
    runner.join()
    assert found == [(True, True, None)]


def test_it_is_used_again_right_away() -> None:
    group = WaitGroup()
    group.add()
    first = gp.spawn(group.wait)
    wait_all_parked()
    group.done()
    group.add()  # before the first has resumed
    second = gp.spawn(group.wait)
    assert first.result()
    wait_all_parked()
    assert not second.done
    group.done()
    assert second.result()


def test_add_may_be_negative_but_the_counter_may_not() -> None:
    group = WaitGroup()
    group.add(5)
    group.add(-3)
    with pytest.raises(ValueError, match=r"than added: add\(-3\) to <WaitGroup .*: 2"):
        group.add(-3)
    group.add(-2)
    with pytest.raises(ValueError, match="more were done"):
        group.done()
    assert is_empty(group)


def test_what_is_no_whole_number_is_refused() -> None:
    with pytest.raises(TypeError):
        WaitGroup().add(0.5)  # type: ignore[arg-type]


def test_a_wait_in_vain_says_so() -> None:
    group = WaitGroup()
    group.add()
    with virtual_clock():
        assert group.wait(5) is False
        with pytest.raises(TimeoutError), gp.timeout(5):
            group.wait()
    assert not group._line


@given(st.lists(st.integers(-4, 4), max_size=20))
def test_its_waiters_go_on_exactly_at_zero(steps: list[int]) -> None:
    group, count = WaitGroup(), 0
    for step in steps:
        waiter = gp.spawn(group.wait)
        wait_all_parked()
        assert waiter.done is (count == 0)
        if count + step < 0:
            with pytest.raises(ValueError, match="more were done"):
                group.add(step)
        else:
            group.add(step)
            count += step
        wait_all_parked()
        assert len(group._line) == 0 or count
    group.add(-count)
    wait_all_parked()
    assert is_empty(group)


# -- go ------------------------------------------------------------------------------------------


def test_go_counts_until_the_task_has_ended() -> None:
    group, gate, ran = WaitGroup(), gp.Event(), []

    def work(n: int, *, more: int) -> int:
        gate.wait()
        ran.append(n + more)
        return n

    tasks = [group.go(work, n, more=10) for n in range(3)]
    assert group._count == 3
    assert group.wait(0) is False
    gate.set()
    assert group.wait()
    assert ran == [10, 11, 12]
    assert [task.result() for task in tasks] == [0, 1, 2]
    assert "in test_go_counts" in tasks[0].spawned_at()


def test_go_counts_tasks_that_fail_or_are_cancelled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[BaseException] = []
    monkeypatch.setattr(gp, "excepthook", lambda task, error: reported.append(error))
    group = WaitGroup()

    def fail() -> None:
        raise ZeroDivisionError

    failed = group.go(fail)
    parked = group.go(gp.Event().wait)
    wait_all_parked()
    unstarted = group.go(gp.Event().wait)
    unstarted.cancel()
    parked.cancel()
    assert group.wait()
    assert isinstance(failed.exception(), ZeroDivisionError)
    assert parked.cancelled
    assert unstarted.cancelled
    assert [type(error) for error in reported] == [ZeroDivisionError], "nobody had joined it"
    assert is_empty(group)


def test_go_refuses_what_is_not_callable_and_counts_nothing() -> None:
    group = WaitGroup()
    with pytest.raises(TypeError, match="needs a callable"):
        group.go(5)  # type: ignore[arg-type]
    assert group.wait()


def test_done_by_a_task_of_go_itself_is_reported_and_harms_nobody(
    capsys: pytest.CaptureFixture[str],
) -> None:
    group = WaitGroup()
    task = group.go(group.done)
    assert group.wait()
    task.result()
    assert "more were done than added" in capsys.readouterr().err
    assert is_empty(group)


# -- several hubs and threads --------------------------------------------------------------------


def test_two_hubs_and_threads_count_and_wait() -> None:
    group, total = WaitGroup(), 0
    counted = threading.Lock()

    def work() -> None:
        nonlocal total
        with counted:
            total += 1
        gp.yield_now()
        group.done()

    def thread() -> None:
        for _ in range(100):
            group.add()
            work()
        this_hub().close()

    def main() -> list[bool]:
        hubs = gp.hubs()
        group.add(401)
        threads = [threading.Thread(target=thread) for _ in range(2)]
        waiters = [gp.spawn_on(hub, group.wait) for hub in hubs for _ in range(3)]
        for each in threads:
            each.start()
        for n in range(400):
            gp.spawn_on(hubs[n % 2], work)
        for each in threads:
            gp.offload(each.join)
        assert not any(task.done for task in waiters)
        group.done()
        return [task.result() for task in waiters]

    assert gp.run(main, hubs=2) == [True] * 6
    assert total == 600
    assert is_empty(group)


def test_waiters_race_the_last_done_and_none_sleeps_on() -> None:
    def main() -> None:
        ours, other = gp.hubs()
        for _ in range(300):
            group = WaitGroup()
            group.add(2)
            tasks: list[gp.Task[Any]] = [
                gp.spawn_on(other, group.wait),
                gp.spawn_on(other, group.done),
                gp.spawn_on(ours, group.wait),
            ]
            group.done()
            for task in tasks:
                task.result()
            assert is_empty(group)

    gp.run(main, hubs=2)
