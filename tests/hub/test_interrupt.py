"""Ctrl-C and the wake-up of a sleeping hub. (The storm is in test_laws.py.)"""

from __future__ import annotations

import ast
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

import greenpump as gp
import greenpump.hub
from greenpump.hub.hub import Hub
from greenpump.hub.interrupt import interruptible
from greenpump.hub.local import this_hub
from greenpump.hub.pollable import Pollable
from greenpump.hub.wait import wake
from greenpump.testing import wait_all_parked


@pytest.fixture
def sigint(hub: Hub) -> Iterator[Hub]:
    """A hub that took SIGINT over, as in a fresh program."""
    hub.close()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    made = this_hub()
    yield made
    made.close()
    signal.signal(signal.SIGINT, before)


def test_in_user_code_it_is_raised_at_once(sigint: Hub) -> None:
    where = []

    def body() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            where.append(gp.current())

    task = gp.spawn(body)
    task.result()
    assert where == [task]
    with pytest.raises(KeyboardInterrupt):  # what a task swallows, the main task still gets
        gp.sleep(3600)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    gp.yield_now()  # once


def test_what_a_task_makes_of_it_is_not_reported(
    sigint: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[BaseException] = []
    monkeypatch.setattr(gp, "excepthook", lambda task, error: reports.append(error))

    def body() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError("as C code does that calls Python's") from None

    task = gp.spawn(body)
    with pytest.raises(KeyboardInterrupt):
        gp.sleep(3600)
    assert task.done
    assert reports == []


def test_while_the_hub_sleeps_it_is_raised_in_main(sigint: Hub, hub: Hub) -> None:
    task = gp.spawn(gp.sleep, 3600)
    thread = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT))
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        task.join()
    thread.join()
    assert not task.done
    task.cancel()
    task.join()


@pytest.mark.parametrize("parks", ["yields", "sleeps"])
def test_in_hub_code_it_waits_for_mains_next_park(parks: str, sigint: Hub) -> None:
    parked: list[gp.Task[None]] = []
    place = Place()

    def interrupt() -> bool:
        sigint.autojump = None
        signal.raise_signal(signal.SIGINT)  # hub code is on the stack: main is not told yet
        wake(parked.pop())
        return True

    def park() -> None:
        parked.append(sigint.prepare())
        sigint.wait(parked[0], place)

    sigint.autojump, sigint.idle_ms = interrupt, 0
    steps: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        park_and_go_on(park, steps, gp.yield_now if parks == "yields" else lambda: gp.sleep(60))
    assert len(steps) in (1, 2)


def park_and_go_on(park: Callable[[], None], steps: list[int], then: Callable[[], None]) -> None:
    park()
    for n in range(5):
        steps.append(n)
        then()


class Place:
    """A wait that only its claimer ends."""

    def abandon(self, task: gp.Task[object]) -> bool:
        return False

    def reason(self, task: gp.Task[object]) -> str:
        return "a place"


def test_frames() -> None:
    def user(frame: FrameType) -> bool:
        return interruptible(frame)

    assert interruptible(None)
    assert user(sys._getframe())
    assert gp.spawn(lambda: user(sys._getframe())).result() is True

    class Asked(Place):
        def abandon(self, task: gp.Task[object]) -> bool:
            seen.append(interruptible(sys._getframe()))
            return True

    seen: list[bool] = []
    hub = this_hub()
    task = gp.spawn(lambda: hub.wait(hub.prepare(), Asked()))
    wait_all_parked()
    thread = threading.Thread(target=task.cancel)  # so root abandons the wait
    thread.start()
    task.join()
    thread.join()
    assert seen == [False]


def test_hub_code_acquires_no_lock_by_with() -> None:
    # Why not: see interrupt.py. The storm of test_laws.py finds it on 3.14 alone, and now and then.
    folder = Path(greenpump.hub.__path__[0])
    trees = {path.name: ast.parse(path.read_text()) for path in folder.glob("*.py")}
    locks = {
        ast.unparse(node.targets[0])
        for tree in trees.values()
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.value).endswith("Lock()")
    }
    assert len(locks) >= 4
    found = [
        f"{name}:{node.lineno}"
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        for item in node.items
        if ast.unparse(item.context_expr).rpartition(".")[2] in locks
    ]
    assert found == []


def test_a_handler_of_the_programs_is_left_alone(hub: Hub) -> None:
    hub.close()
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda signum, frame: seen.append(signum))
    try:
        made = this_hub()
        signal.raise_signal(signal.SIGINT)
        assert seen == [signal.SIGINT]
        made.close()
        signal.raise_signal(signal.SIGINT)
        assert seen == [signal.SIGINT] * 2
    finally:
        signal.signal(signal.SIGINT, before)


def test_closing_gives_sigint_back(sigint: Hub) -> None:
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    sigint.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_set_meanwhile_stays(sigint: Hub) -> None:
    def mine(signum: int, frame: FrameType | None) -> None: ...

    signal.signal(signal.SIGINT, mine)
    sigint.close()
    assert signal.getsignal(signal.SIGINT) is mine


def test_the_wake_up_fd_of_the_program_gets_its_bytes_and_comes_back(hub: Hub) -> None:
    hub.close()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    handler = signal.signal(signal.SIGUSR1, lambda *args: None)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        made = this_hub()
        signal.raise_signal(signal.SIGUSR1)
        gp.sleep(1e-3)
        assert ours.recv(10) == bytes([signal.SIGUSR1])
        made.close()
        assert signal.set_wakeup_fd(theirs.fileno()) == theirs.fileno()
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGUSR1, handler)
        ours.close()
        theirs.close()


def test_a_handler_that_readies_a_task_wakes_the_sleeping_hub() -> None:
    left, right = socket.socketpair()
    pollable = Pollable(left.fileno())
    reader = gp.spawn(pollable.wait_read)
    before = signal.signal(signal.SIGUSR1, lambda *args: reader.cancel())
    thread = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1))
    try:
        with left, right:
            thread.start()
            reader.join()
            assert reader.cancelled
            pollable.close()
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def test_another_threads_hub_has_nothing_to_do_with_signals() -> None:
    seen = []

    def body() -> None:
        hub = this_hub()
        seen.append(hub.interrupts)
        gp.sleep(1e-4)
        hub.close()

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [None]
