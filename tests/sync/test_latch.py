"""Latch: one thread inside, whoever asks; and no thread waits for itself."""

from __future__ import annotations

import gc
import linecache
import os
import re
import sys
import threading
import time
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable
from dis import opname
from types import FrameType
from typing import Any

import pytest

import greenpump as gp
from greenpump.errors import HubError
from greenpump.hub.local import FREE_THREADED
from greenpump.sync.latch import (
    EVERYBODYS,
    TIMERS,
    Latch,
    _entering,
    _is_inside,
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


def order_of_two(
    latch: Latch, enter: Callable[[], object], leave: Callable[[], object]
) -> list[str]:
    """Who was inside first: this thread, by ``enter`` and ``leave``, or another that came later."""
    order: list[str] = []
    enter()
    thread = threading.Thread(target=latched, args=(latch, order.append, "other"))
    thread.start()
    order.append("first")
    leave()
    thread.join()
    return order


def test_who_finds_it_taken_enters_when_the_other_leaves() -> None:
    latch = own_latch()
    enter, leave = latch
    assert order_of_two(latch, enter, leave) == ["first", "other"]


def test_a_thread_s_own_methods_enter_and_leave_the_same_one() -> None:
    latch = own_latch()
    enter, leave = latch
    enter_too, leave_too = of_this_thread(latch)
    assert order_of_two(latch, enter_too, leave) == ["first", "other"]
    assert order_of_two(latch, enter, leave_too) == ["first", "other"]
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


@with_the_gil
def test_so_does_an_index_error_of_a_handler_s() -> None:
    latch = own_latch()
    enter, _ = latch

    def handler() -> None:
        raise IndexError("a handler's")

    enter()
    try:
        handler()
    except IndexError as error:
        with pytest.raises(IndexError, match="a handler's"):
            held_up(latch, error)
    assert latched(latch, int) == 0


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
    "a finaliser, signal handler or trace function used a channel or timer while it interrupted an "
    "operation on one; let it spawn a task for that"
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
@pytest.mark.parametrize("which", ["channels", "timers"])
def test_a_fork_waits_until_it_is_free_and_leaves_it_free_in_both(which: str) -> None:
    latch: Any = TIMERS if which == "timers" else EVERYBODYS[0]
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
        os._exit(0 if gp.Channel[int](1).try_send(1) and gp.Timer(60).stop() else 1)
    assert os.waitpid(pid, 0) == (pid, 0)
    thread.join()
    assert gp.Channel[int](1).try_send(1)
    assert gp.Timer(60).stop()


@with_the_gil
def test_a_finaliser_that_strikes_inside_a_timer_s_may_use_another_timer() -> None:
    timer, other, channel = gp.Timer(60), gp.Timer(60), gp.Channel[int](1)
    met: list[object] = []

    class Waiting(OrderedDict[Any, Any]):
        def __bool__(self) -> bool:  # looked at inside the latch
            met.extend((other.stop(), channel.try_send(1)))
            try:
                timer.stop()
            except HubError as error:
                met.append(str(error))
            return False

    timer._waiting = Waiting()
    assert timer.try_recv() is None
    assert met == [True, True, TOLD]
    timer._waiting = None
    assert timer.stop()


@with_the_gil
def test_who_is_inside_does_not_wait_for_those_who_wait_for_it() -> None:
    channel, other, third = gp.Channel[int](), gp.Channel[int](1), gp.Channel[int](1)
    sent: list[bool] = []

    def finaliser() -> None:
        thread.start()
        while not any(frame.f_code is held_up.__code__ for frame in sys._current_frames().values()):
            time.sleep(0)  # until the thread waits for the latch
        sent.append(other.try_send(1))

    thread = threading.Thread(target=third.send, args=(1,))
    assert strike_inside(channel, finaliser) == []
    thread.join()
    assert sent == [True]
    assert (len(other), len(third)) == (1, 1)


@with_the_gil
def test_who_only_was_inside_waits_for_another_thread() -> None:
    # It is interrupted in ``send``, but before that enters or after it has left.
    [(enter, leave)] = EVERYBODYS
    inside, leaving = threading.Event(), threading.Event()
    other = gp.Channel[int](1)

    class Interrupted(gp.Channel[int]):
        def _charge(self) -> None:
            super()._charge()
            sent.append(other.try_send(1))

    @enters_latch
    def hold() -> None:
        enter()
        inside.set()
        leaving.wait()
        leave()

    sent: list[bool] = []
    channel = Interrupted(1)
    channel._quota = -1
    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    threading.Timer(0.001, leaving.set).start()
    channel.send(1)
    thread.join()
    assert sent == [True]


@with_the_gil
def test_a_handler_that_strikes_when_enter_has_returned_is_inside() -> None:
    channel, other, met = gp.Channel[int](1), gp.Channel[int](1), []

    def strike(frame: FrameType, event: str, function: Any) -> None:
        # Where a signal handler would be called, too.
        if event == "c_return" and frame.f_code is gp.Channel.send.__code__:
            sys.setprofile(None)
            met.append((function.__name__, other.try_send(1)))

    sys.setprofile(strike)
    channel.send(1)
    sys.setprofile(None)
    assert met == [("pop", True)]
    assert (channel.recv(), other.recv()) == (1, 1)


@with_the_gil
def test_who_is_inside_another_one_waits() -> None:
    # A PriorityQueue compares its items inside a latch of its own.
    [(enter, leave)] = EVERYBODYS
    channel = gp.Channel[int](1)
    queue: gp.PriorityQueue[Any] = gp.PriorityQueue()

    class Item:
        def __lt__(self, other: object) -> bool:
            enter()
            threading.Timer(0.001, leave).start()  # as another thread that is inside
            channel.send(1)
            return True

    queue.put(Item())
    queue.put(Item())
    assert channel.recv() == 1
    assert latched((enter, leave), int) == 0


@pytest.mark.skipif(not FREE_THREADED, reason="the GIL's latch is looked at above")
@pytest.mark.parametrize("use", ["try_send", "try_recv", "close"])
def test_without_the_gil_who_strikes_inside_one_and_uses_it_is_told_too(use: str) -> None:
    channel = gp.Channel[int]()
    uses: dict[str, Callable[[], Any]] = {
        "try_send": lambda: channel.try_send(1),
        "try_recv": channel.try_recv,
        "close": channel.close,
    }
    assert strike_inside(channel, uses[use]) == [TOLD]
    assert (channel.closed, channel.try_send(1)) == (False, False), "it did nothing; all goes on"


UNTOLD = re.compile(r"enter\(\)|leave\(\)|held_up\(|in latches")


@with_the_gil
def test_it_knows_at_each_instruction_whether_it_is_inside() -> None:
    select: Any = gp.select
    seen: Counter[tuple[str, bool]] = Counter()
    wrong = []

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code not in _entering:
            return None
        frame.f_trace_opcodes = True
        code, lasti = frame.f_code, frame.f_lasti
        where = linecache.getline(code.co_filename, frame.f_lineno or 0)
        # Nothing strikes where a loop goes from latch to latch, nor at what has no line unless that
        # ends a loop; and calls are told when they return.
        jumps = opname[code.co_code[lasti]].startswith("JUMP_BACKWARD")
        if event == "opcode" and (where or jumps) and not UNTOLD.search(where):
            latch: Any = (
                TIMERS if code.co_name == "stop" else frame.f_locals.get("latch", *EVERYBODYS)
            )
            inside = not latch[0].__self__
            seen[code.co_name, inside] += 1
            if _is_inside(frame, latch) is not inside:
                wrong.append((code.co_name, frame.f_lineno, lasti, inside))
        return trace

    def everything() -> None:
        rendezvous, buffered, full = gp.Channel[int](), gp.Channel[int](2), gp.Channel[int](1)
        queue: gp.Queue[int] = gp.Queue(1)
        assert gp.select(gp.receiving(rendezvous), gp.receiving(full), timeout=0) is None
        tasks = [gp.spawn(rendezvous.send, 1), gp.spawn(full.send, 2), gp.spawn(full.send, 3)]
        tasks += [gp.spawn(queue.put, number) for number in range(2)]
        gp.yield_now()
        assert [rendezvous.recv(), full.recv(), full.recv()] == [1, 2, 3]
        assert [queue.get(), queue.get()] == [0, 1]
        with gp.move_on_after(0):
            rendezvous.recv()
        with gp.move_on_after(0):
            rendezvous.send(1)
        # Selects that find each other, one that is overtaken, and one that waits in vain.
        tasks.append(gp.spawn(select, gp.receiving(rendezvous), gp.receiving(full)))
        tasks.append(gp.spawn(select, gp.sending(rendezvous, 1), gp.receiving(buffered)))
        lost = gp.spawn(select, gp.sending(rendezvous, 1), gp.receiving(full))
        gp.yield_now()
        lost.cancel()
        assert full.try_send(1)
        assert full.try_recv() == 1
        buffered.send(1)
        buffered.close()
        assert list(buffered) == [1]
        with pytest.raises(gp.ChannelClosed):
            buffered.send(1)
        for task in tasks:
            task.result()
        timer = gp.Timer(60)
        assert gp.select(timer, gp.receiving(rendezvous), timeout=0) is None
        assert timer.stop()

    sys._getframe().f_trace_opcodes = True  # 3.12 looks here whether anybody wants them
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        gp.spawn(everything).result()
    finally:
        sys.settrace(before)
    assert wrong == []
    for name in ("send", "recv", "put", "latched", "_attempt", "leave", "stop"):
        assert seen[name, True], name
        assert seen[name, False], name


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
