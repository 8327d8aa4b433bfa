"""Turn: first come, first served, and nothing is lost to a deadline or a cancel."""

from __future__ import annotations

import threading

from greenpump.errors import Cancelled
from greenpump.hub.local import this_hub
from greenpump.hub.scope import move_on_after
from greenpump.hub.spawning import spawn
from greenpump.hub.timers import FAR
from greenpump.net.tls.turn import Turn
from greenpump.testing import virtual_clock, wait_all_parked


def test_one_at_a_time_in_the_order_of_coming() -> None:
    turn = Turn("receive")
    order: list[int] = []

    def take(number: int) -> None:
        assert turn.take(FAR)
        order.append(number)
        turn.give()

    assert turn.try_take()
    assert not turn.try_take()
    tasks = [spawn(take, number) for number in range(3)]
    wait_all_parked()
    turn.give()
    assert not turn.try_take()  # it is the first one's in line already
    for task in tasks:
        task.join()
    assert order == [0, 1, 2]
    assert turn.try_take()


def test_a_deadline_leaves_the_line() -> None:
    with virtual_clock() as clock:
        turn = Turn("receive")
        assert turn.try_take()
        late = spawn(turn.take, this_hub().timers.after(1))
        wait_all_parked()
        clock.advance(2)
        assert late.result() is False
        turn.give()
        assert turn.try_take()


def test_a_cancel_leaves_the_line_and_an_heir_passes_it_on() -> None:
    turn = Turn("send")
    assert turn.try_take()
    first, second = spawn(turn.take, FAR), spawn(turn.take, FAR)
    wait_all_parked()
    first.cancel()
    wait_all_parked()
    assert isinstance(first.exception(), Cancelled)
    turn.give()
    assert second.result() is True
    turn.give()
    assert turn.try_take()


def test_what_was_handed_over_is_not_lost_to_a_cancel() -> None:
    turn = Turn("send")
    assert turn.try_take()
    seen = []

    def take() -> None:
        with move_on_after():
            seen.append(turn.take(FAR))
        turn.give()

    heir = spawn(take)
    wait_all_parked()
    turn.give()
    heir.cancel()  # too late: it has the turn
    heir.join()
    assert seen == [True]
    assert turn.try_take()


def test_across_threads() -> None:
    turn = Turn("receive")
    counts = {"inside": 0, "done": 0}

    def work() -> None:
        for _ in range(200):
            assert turn.take(FAR)
            counts["inside"] += 1
            assert counts["inside"] == 1
            counts["inside"] -= 1
            counts["done"] += 1
            turn.give()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    assert counts["done"] == 800


def test_it_says_what_it_waits_for() -> None:
    turn = Turn("receive")
    assert turn.try_take()
    task = spawn(turn.take, FAR)
    wait_all_parked()
    assert task.wait is turn
    assert turn.reason(task) == "its turn to receive over TLS"
    turn.give()
    assert task.result()
