"""Latch: one thread inside, whoever asks; and no thread waits for itself."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

import greenpump as gp
from greenpump.errors import HubError
from greenpump.hub.task import FREE_THREADED
from greenpump.sync.latch import (
    EVERYBODYS,
    enters_latch,
    held_up,
    in_order,
    latched,
    new_latch,
    of_this_thread,
    own_latch,
)

with_the_gil = pytest.mark.skipif(FREE_THREADED, reason="Locks, one for each channel")


def test_one_is_inside() -> None:
    latch = own_latch()
    shared = {"count": 0}

    def add() -> None:
        count = shared["count"]
        sorted(range(50))
        shared["count"] = count + 1

    def many() -> None:
        for _ in range(2000):
            latched(latch, add)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=many) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert shared["count"] == 8000


def test_it_is_left_by_an_error() -> None:
    latch = own_latch()
    with pytest.raises(ZeroDivisionError):
        latched(latch, lambda: 1 / 0)
    assert latched(latch, lambda a, b: (a, b), 1, 2) == (1, 2)


def test_who_finds_it_taken_enters_when_the_other_leaves() -> None:
    latch = own_latch()
    enter, leave = latch
    order: list[str] = []
    enter()
    thread = threading.Thread(target=latched, args=(latch, order.append, "other"))
    thread.start()
    order.append("first")
    leave()
    thread.join()
    assert order == ["first", "other"]


def test_a_thread_s_own_methods_enter_and_leave_the_same_one() -> None:
    latch = own_latch()
    enter, leave = latch
    enter_too, leave_too = of_this_thread(latch)
    order: list[str] = []
    enter_too()
    thread = threading.Thread(target=latched, args=(latch, order.append, "other"))
    thread.start()
    order.append("first")
    leave()
    thread.join()
    enter()
    leave_too()
    assert order == ["first", "other"]
    assert latched(latch, int) == 0


def test_several_are_entered_in_one_order_and_each_once() -> None:
    one, other, third = own_latch(), own_latch(), own_latch()
    found = in_order([third, one, other, one])
    assert found == in_order([one, other, third, third])
    assert sorted(map(id, found)) == sorted(map(id, (one, other, third)))


def test_with_the_gil_there_is_one_for_all_channels() -> None:
    assert (new_latch() is new_latch()) is not FREE_THREADED
    assert bool(EVERYBODYS) is not FREE_THREADED


@with_the_gil
def test_an_error_of_a_signal_handler_s_leaves_it_free() -> None:
    latch = own_latch()
    enter, _ = latch
    enter()  # and right after that the handler raised
    with pytest.raises(OSError, match="a handler's"):
        held_up(latch, OSError("a handler's"))
    assert latched(latch, int) == 0
    with pytest.raises(KeyError):
        held_up(latch, KeyError("and if it was free already, it is free once"))
    enter()
    with pytest.raises(IndexError):
        enter()


class Cycle:
    """Garbage that only the collector finds."""

    def __init__(self, finaliser: Callable[[], Any]) -> None:
        self.itself = self
        weakref.finalize(self, finaliser).atexit = False


class Collecting(dict[Any, Any]):
    """In a channel's place for messages to waiting receivers: collects, as any allocation may."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        gc.collect()


TOLD = (
    "a finaliser, signal handler or trace function used a channel while it interrupted an "
    "operation on a channel; let it spawn a task for that"
)


def strike_inside(channel: gp.Channel[int], finaliser: Callable[[], Any]) -> list[str]:
    """Have a finaliser run inside the latch of ``channel.send``: what errors it met."""
    errors = []

    def guarded() -> None:
        try:
            finaliser()
        except HubError as error:
            errors.append(str(error))

    receiver = gp.spawn(channel.recv)
    gp.yield_now()
    channel._handed = Collecting()
    gc.collect()
    Cycle(guarded)
    channel.send(5)
    assert receiver.result() == 5
    return errors


@with_the_gil
def test_a_finaliser_that_strikes_inside_may_use_another_channel_without_waiting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    channel, other, closing = gp.Channel[int](), gp.Channel[int](1), gp.Channel[int](1)
    receiver = gp.spawn(list, closing)
    gp.yield_now()

    def finaliser() -> None:
        assert other.try_recv() is None
        assert other.try_send(1)
        closing.close()

    assert strike_inside(channel, finaliser) == []
    assert (len(other), closing.closed) == (1, True)
    assert receiver.result() == []
    assert capsys.readouterr().err == ""


@with_the_gil
@pytest.mark.parametrize("use", ["close", "try_send", "try_recv", "send", "recv", "select"])
def test_a_finaliser_that_strikes_inside_is_told(
    use: str, capsys: pytest.CaptureFixture[str]
) -> None:
    channel, other = gp.Channel[int](), gp.Channel[int]()
    uses: dict[str, Callable[[], Any]] = {
        "close": channel.close,
        "try_send": lambda: channel.try_send(1),
        "try_recv": channel.try_recv,
        "send": lambda: other.send(1),
        "recv": other.recv,
        "select": lambda: gp.select(gp.receiving(other), timeout=0),
    }
    assert strike_inside(channel, uses[use]) == [TOLD]
    assert (channel.closed, channel.try_send(1)) == (False, False), "it did nothing; all goes on"
    assert capsys.readouterr().err == ""


@with_the_gil
@pytest.mark.parametrize("direction", ["receiving", "sending"])
def test_a_select_is_busy_with_all_its_channels(direction: str) -> None:
    channel, other, third = (gp.Channel[int]() for _ in range(3))
    case = gp.receiving(other) if direction == "receiving" else gp.sending(other, 1)
    sender = gp.spawn(channel.send, 5)
    gp.yield_now()
    met = []

    class Collecting(OrderedDict[Any, Any]):
        def popitem(self, last: bool = True) -> tuple[Any, Any]:
            for used in (channel, other, third):
                try:
                    met.append(used.try_recv("nothing"))
                except HubError as error:
                    met.append(str(error))
            return super().popitem(last)

    channel._senders = Collecting(channel._senders)
    assert gp.select(case, gp.receiving(channel)) == (1, 5)
    assert met == [TOLD, TOLD, "nothing"]
    sender.join()


@with_the_gil
def test_a_finaliser_may_use_a_channel_anywhere_else() -> None:
    channel = gp.Channel[int](1)
    Cycle(lambda: channel.send(1))
    gc.collect()
    assert channel.recv() == 1


@with_the_gil
def test_a_fork_waits_until_it_is_free_and_leaves_it_free_in_both() -> None:
    [latch] = EVERYBODYS
    inside = threading.Event()

    def hold() -> None:
        inside.set()
        for _ in range(100):
            time.sleep(0)

    thread = threading.Thread(target=latched, args=(latch, hold))
    thread.start()
    inside.wait()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if gp.Channel[int](1).try_send(1) else 1)
    assert os.waitpid(pid, 0) == (pid, 0)
    thread.join()
    assert gp.Channel[int](1).try_send(1)


@with_the_gil
def test_a_nested_operation_waits_for_another_thread() -> None:
    # Two functions that enter a latch lie on this stack, but it is another thread that is inside.
    latch = own_latch()
    enter, leave = latch
    inside, leaving = threading.Event(), threading.Event()

    @enters_latch
    def hold() -> None:
        enter()
        inside.set()
        leaving.wait()
        leave()

    @enters_latch
    def outer() -> str:
        threading.Timer(0.001, leaving.set).start()
        return latched(latch, str, "entered")

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    assert outer() == "entered"
    thread.join()
