"""Connections that hold no task."""

from __future__ import annotations

import contextvars
import gc
import os
import socket
import threading
import tracemalloc
import weakref
from errno import EBADF
from functools import partial
from typing import Any

import greenlet
import pytest

from greenpump.errors import Cancelled, TaskCancelled
from greenpump.hub.hub import Hub
from greenpump.hub.local import this_hub
from greenpump.hub.pollable import NO, YES
from greenpump.hub.spawning import current, spawn, yield_now
from greenpump.hub.task import Task
from greenpump.net.base import CLOSED
from greenpump.net.listen import listen, socketpair
from greenpump.net.socket import Socket
from greenpump.sync.channel import Channel
from greenpump.testing import wait_all_parked

from .conftest import registrations


class Handler:
    """Collects what it receives; closes at EOF, and is detached again after anything else."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def __call__(self, conn: Socket) -> None:
        data = conn.recv(100)
        self.seen.append(data)
        if data:
            conn.detach_until_readable(self)
        else:
            conn.close()


def test_fn_runs_when_bytes_come_and_at_the_end(hub: Hub) -> None:
    a, b = socketpair()
    handler = Handler()
    b.detach_until_readable(handler)
    wait_all_parked()
    assert handler.seen == []
    assert hub.live_tasks() == []
    for data in (b"one", b"two"):
        a.sendall(data)
        wait_all_parked()
        assert handler.seen[-1] == data
        assert hub.live_tasks() == []
    a.close()
    wait_all_parked()
    assert handler.seen == [b"one", b"two", b""]
    assert b.fileno() == -1


@pytest.mark.parametrize("registered", [False, True])
@pytest.mark.parametrize("data", [b"x", b""])
def test_what_is_there_already_counts(registered: bool, data: bytes) -> None:
    a, b = socketpair()
    if registered:
        a.sendall(b"first")
        task = spawn(b.recv, 100)
        wait_all_parked()
        waiting = spawn(b.recv, 100)
        wait_all_parked()
        a.sendall(b"second")
        assert [task.result(), waiting.result()] == [b"first", b"second"]
    if data:
        a.sendall(data)
    else:
        a.shutdown(socket.SHUT_WR)
    yield_now()
    handler = Handler()
    b.detach_until_readable(handler)
    wait_all_parked()
    assert handler.seen == [data]
    a.close()
    wait_all_parked()
    b.close()


def test_bytes_left_by_a_full_read_count() -> None:
    a, b = socketpair()
    a.sendall(b"abcdef")
    assert b.recv(3) == b"abc"
    handler = Handler()
    b.detach_until_readable(handler)
    wait_all_parked()
    assert handler.seen == [b"def"]
    a.close()
    wait_all_parked()


def test_the_registration_keeps_it_alive(hub: Hub) -> None:
    a, b = socketpair()
    handler = Handler()
    b.detach_until_readable(handler)
    gone = weakref.ref(b)
    del b
    gc.collect()
    assert gone() is not None
    a.sendall(b"still")
    wait_all_parked()
    assert handler.seen == [b"still"]
    a.close()
    wait_all_parked()
    assert gone() is None
    assert registrations(hub) == []


def test_closing_drops_fn(hub: Hub) -> None:
    a, b = socketpair()
    handler = Handler()
    b.detach_until_readable(handler)
    b.close()
    a.close()
    wait_all_parked()
    assert handler.seen == []
    assert hub.live_tasks() == []


def test_closing_after_the_bytes_came_drops_fn_too() -> None:
    a, b = socketpair()
    handler = Handler()
    b.detach_until_readable(handler)
    wait_all_parked()
    a.sendall(b"x")
    this_hub().poll_now()  # its task is ready now, and has not run
    b.close()
    a.close()
    wait_all_parked()
    assert handler.seen == []


def test_sending_meanwhile_is_fine() -> None:
    a, b = socketpair()
    handler = Handler()
    b.detach_until_readable(handler)
    sending = [spawn(b.sendall, bytes(1_000_000)) for _ in range(2)]
    wait_all_parked()
    a.recv_exactly(2_000_000)
    for task in sending:
        task.result()
    wait_all_parked()
    assert handler.seen == []
    a.close()
    wait_all_parked()
    assert handler.seen == [b""]


def test_a_deadline_does_not_end_it() -> None:
    a, b = socketpair()
    handler = Handler()
    b.detach_until_readable(handler)
    b.set_deadline(0)
    wait_all_parked()
    assert handler.seen == []
    b.set_deadline(None)
    a.sendall(b"x")
    wait_all_parked()
    assert handler.seen == [b"x"]
    a.close()
    wait_all_parked()


def test_one_at_a_time() -> None:
    a, b = socketpair()
    with a, b:
        b.detach_until_readable(print)
        with pytest.raises(RuntimeError, match=rf"fd {b.fileno()} is detached already"):
            b.detach_until_readable(print)
        reading = spawn(a.recv, 1)
        wait_all_parked()
        with pytest.raises(RuntimeError, match="a task waits to receive"):
            a.detach_until_readable(print)
        reading.cancel()
        reading.join()
    wait_all_parked()


def test_wrong_use() -> None:
    a, b = socketpair()
    with a, b, pytest.raises(TypeError, match="callable"):
        a.detach_until_readable(5)  # type: ignore[arg-type]
    with pytest.raises(OSError) as info:
        a.detach_until_readable(print)
    assert info.value.errno == EBADF


def test_the_task_is_known_by_fn_and_has_the_callers_context() -> None:
    a, b = socketpair()
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var")
    seen: list[Any] = []

    def greet(conn: Socket) -> None:
        seen.extend([var.get(), current().name.rpartition(".")[2][:6], current().spawned_at()])
        conn.close()

    def detach() -> None:
        var.set("mine")
        b.detach_until_readable(greet)

    spawn(detach).join()
    a.close()
    wait_all_parked()
    assert seen[:2] == ["mine", "greet#"]
    assert seen[2].endswith(".detach")


@pytest.mark.parametrize("persist", [False, True])
def test_a_partial_keeps_its_arguments(persist: bool) -> None:
    a, b = socketpair()
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var")
    seen: list[Any] = []

    def greet(greeting: str, conn: Socket, *, mark: str) -> None:
        seen.append((greeting, conn.recv(10), mark, var.get()))

    def detach() -> None:
        var.set("mine")
        b.detach_until_readable(partial(greet, "hello", mark="!"), persist=persist)

    spawn(detach).join()
    with a, b:
        a.sendall(b"x")
        wait_all_parked()
    wait_all_parked()
    assert seen == [("hello", b"x", "!", "mine")]


def test_a_partial_that_does_more_when_called_does_it() -> None:
    a, b = socketpair()
    seen: list[bytes] = []

    class Receiving(partial[object]):
        def __call__(self, conn: Socket, /) -> object:
            return super().__call__(conn.recv(10))

    contextvars.ContextVar[str]("var").set("so that the context isn't empty")
    b.detach_until_readable(Receiving(seen.append))
    with a, b:
        a.sendall(b"x")
        wait_all_parked()
    assert seen == [b"x"]


@pytest.mark.parametrize("persist", [False, True])
@pytest.mark.parametrize("how", ["returns", "raises", "hands over"])
def test_a_call_that_read_nothing_leaves_all_to_the_next_reader(
    how: str, persist: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = socketpair()
    seen: list[Any] = []

    def look(conn: Socket) -> None:
        seen.append(conn._pollable.readable is greenlet.getcurrent())
        if how == "raises":
            raise LookupError("what fn said")
        if how == "hands over":
            conn.detach_until_readable(lambda conn: seen.append(conn.recv(10)))
        elif persist:
            current().cancel()

    with a, b:
        b.detach_until_readable(look, persist=persist)
        a.sendall(b"x")
        wait_all_parked()
        if how != "hands over":
            # A worker that stood there as the mark would be kept by it, and may be dead one day.
            assert b._pollable.readable == YES
            seen.append(spawn(b.recv, 10).result())
        assert seen == [True, b"x"]
    assert ("what fn said" in capsys.readouterr().err) == (how == "raises")


def test_a_call_that_reads_all_and_ends_waits_for_the_next_edge() -> None:
    a, b = socketpair()
    seen: list[bytes] = []
    with a, b:
        b.detach_until_readable(lambda conn: seen.append(conn.recv(10)))
        a.sendall(b"x")
        wait_all_parked()
        assert seen == [b"x"]
        assert b._pollable.readable == NO


def test_an_error_of_fn_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    a, b = socketpair()

    def fail(conn: Socket) -> None:
        with conn:
            raise LookupError("what fn said")

    b.detach_until_readable(fail)
    a.close()
    wait_all_parked()
    assert "what fn said" in capsys.readouterr().err


def test_a_task_of_another_hub_detaches(hub: Hub) -> None:
    a, b = socketpair()
    first = spawn(b.recv, 1)
    wait_all_parked()  # this hub owns it
    a.sendall(b"x")
    first.join()
    ran_on: list[Hub] = []

    def arrived(conn: Socket) -> None:
        ran_on.append(this_hub())
        conn.close()

    def elsewhere() -> None:
        b.detach_until_readable(arrived)
        this_hub().close()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    a.close()
    wait_all_parked()
    assert ran_on == [hub]


def test_many_at_once() -> None:
    pairs = [socketpair() for _ in range(300)]
    handler = Handler()
    for _, b in pairs:
        b.detach_until_readable(handler)
    for _ in range(3):
        for a, _ in pairs:
            a.sendall(b"x")
        wait_all_parked()
    for a, _ in pairs:
        a.close()
    wait_all_parked()
    assert handler.seen.count(b"x") == 900
    assert handler.seen.count(b"") == 300


def test_the_end_of_the_hub_closes_it(hub: Hub) -> None:
    a, b = socketpair()
    handler = Handler()
    b.detach_until_readable(handler)
    del b
    hub.close()
    with a:
        assert a.recv(1) == b""
    assert handler.seen == []


def test_what_an_idle_connection_costs() -> None:
    handler = Handler()
    peers, fds = [], []
    for _ in range(400):
        theirs, ours = socket.socketpair()
        peers.append(theirs)
        fds.append(ours.detach())
    this_hub().make_room(max(fds))

    def detach_all() -> None:
        for fd in fds:
            Socket(fileno=fd).detach_until_readable(handler)

    tracemalloc.start()
    try:
        # Pytest's own context has something in it, which each would keep.
        contextvars.Context().run(detach_all)
        wait_all_parked()
        cost = tracemalloc.get_traced_memory()[0] / len(fds)
    finally:
        tracemalloc.stop()
    for peer in peers:
        peer.close()
    wait_all_parked()
    assert cost < 600
    assert handler.seen == [b""] * len(fds)


# -- persist --------------------------------------------------------------------------------------


def test_one_that_persists_is_called_again_by_the_same_task(hub: Hub) -> None:
    a, b = socketpair()
    seen: list[bytes] = []
    tasks: list[Task[Any]] = []

    def talk(conn: Socket) -> None:
        tasks.append(current())
        data = conn.recv(100)
        seen.append(data)
        if not data:
            conn.close()

    b.detach_until_readable(talk, persist=True)
    for data in (b"one", b"two", b"three"):
        wait_all_parked()
        assert hub.live_tasks() == []
        a.sendall(data)
        wait_all_parked()
        assert seen[-1] == data
    assert (tasks[0].done, tasks[0].state()) == (False, f"read on fd {b.fileno()}")
    a.close()
    assert tasks[0].join(5)
    assert seen == [b"one", b"two", b"three", b""]
    assert len(set(tasks)) == 1
    assert tasks[0].result() is None
    assert registrations(hub) == []


def test_they_share_one_stack(hub: Hub) -> None:
    pairs = [socketpair() for _ in range(100)]
    seen: list[bytes] = []
    for _, b in pairs:
        b.detach_until_readable(lambda conn: seen.append(conn.recv(100)), persist=True)
    wait_all_parked()
    switches = 0

    def count(event: str, args: object) -> None:
        nonlocal switches
        switches += 1

    for a, _ in pairs:
        a.sendall(b"x")
    before = greenlet.settrace(count)
    try:
        wait_all_parked()
    finally:
        greenlet.settrace(before)
    assert seen == [b"x"] * 100
    assert len(hub.workers) <= 1
    assert switches < 10
    for a, b in pairs:
        b.close()
        a.close()
    wait_all_parked()


@pytest.mark.parametrize("size", [1, 3, 4])
def test_what_a_call_leaves_is_the_next_ones(size: int) -> None:
    a, b = socketpair()
    seen: list[bytes] = []

    def talk(conn: Socket) -> None:
        seen.append(conn.recv(size))
        if seen[-1] == b"":
            conn.close()

    b.detach_until_readable(talk, persist=True)
    wait_all_parked()
    for _ in range(3):  # so often that it gets level-triggered
        a.sendall(b"abc")
        wait_all_parked()
    a.sendall(b"xyz")
    a.close()  # the end comes with the data
    wait_all_parked()
    assert b"".join(seen) == b"abcabcabcxyz"
    assert b.fileno() == -1


def test_reading_to_the_byte_ends_in_level_triggering() -> None:
    a, b = socketpair()
    with a, b:
        b.detach_until_readable(lambda conn: conn.recv(1), persist=True)
        for _ in range(5):
            wait_all_parked()
            a.sendall(b"x")
            wait_all_parked()
            assert b._pollable.ask is None  # it is idle
        assert b._pollable.level
    wait_all_parked()


@pytest.mark.parametrize("timeout", [None, 60])
def test_every_way_to_receive(timeout: float | None) -> None:
    a, b = socketpair()
    b.settimeout(timeout)
    seen: list[bytes] = []
    buffer = bytearray(100)
    ways = [
        lambda: b.recv(100),
        lambda: bytes(buffer[: b.recv_into(buffer)]),
        lambda: b.recvfrom(100)[0],
        lambda: b.recvmsg(100)[0],
        lambda: b.recv_exactly(1),
        lambda: b.recv(1, socket.MSG_WAITALL),
    ]

    def talk(conn: Socket) -> None:
        seen.append(ways[len(seen) % len(ways)]())

    b.detach_until_readable(talk, persist=True)
    for n in range(20):
        wait_all_parked()
        a.sendall(bytes([n]))
    wait_all_parked()
    assert seen == [bytes([n]) for n in range(20)]
    with a, b:
        pass
    wait_all_parked()


def test_one_call_at_a_time_and_it_may_park() -> None:
    a, b = socketpair()
    c, d = socketpair()
    gate: Channel[None] = Channel()
    seen: list[Any] = []

    def slow(conn: Socket) -> None:
        seen.append(("begin", conn.recv(1)))
        gate.recv()
        seen.append("end")

    b.detach_until_readable(slow, persist=True)
    d.detach_until_readable(lambda conn: seen.append(conn.recv(1)), persist=True)
    a.sendall(b"12")
    wait_all_parked()
    c.sendall(b"x")
    wait_all_parked()
    assert seen == [("begin", b"1"), b"x"]
    gate.send(None)
    wait_all_parked()
    assert seen[2:] == ["end", ("begin", b"2")]
    gate.send(None)
    for sock in (a, b, c, d):
        sock.close()
    wait_all_parked()


def test_what_is_next_is_run_as_what_it_is(hub: Hub) -> None:
    """One after the other on one worker: two that persist, one of them parked, and a plain task."""
    pairs = [socketpair() for _ in range(3)]
    gate: Channel[None] = Channel(3)
    seen: list[str] = []

    def waits(conn: Socket) -> None:
        conn.recv(1)
        gate.recv()
        seen.append("waited")

    def wakes(conn: Socket) -> None:
        conn.recv(1)
        gate.send(None)
        spawn(seen.append, "spawned")

    def parks(conn: Socket) -> None:
        conn.recv(1)
        seen.append(f"{len(hub.live_tasks())} tasks, this one: {current() in hub.live_tasks()}")
        gate.recv()

    for fn, (_, b) in zip((waits, parks, wakes), pairs, strict=True):
        b.detach_until_readable(fn, persist=True)
    wait_all_parked()
    for a, _ in pairs:
        a.sendall(b"x")
    wait_all_parked()
    assert sorted(seen) == ["3 tasks, this one: True", "spawned", "waited"]
    assert [task.name.partition("#")[0].rpartition(".")[2] for task in hub.live_tasks()] == [
        "parks"
    ]
    gate.send(None)
    for a, b in pairs:
        a.close()
        b.close()
    wait_all_parked()


def test_what_a_call_leaves_in_its_context_ends_in_its_task(hub: Hub) -> None:
    """So a finaliser there may park; what comes meanwhile is the next call's."""
    a, b = socketpair()
    var: contextvars.ContextVar[object] = contextvars.ContextVar("var")
    seen: list[object] = []

    class Last:
        def __del__(self) -> None:
            seen.append(current().name.partition("#")[0].rpartition(".")[2])
            gate.recv()

    def talk(conn: Socket) -> None:
        seen.append(conn.recv(100))
        var.set(Last())

    gate: Channel[None] = Channel()
    contextvars.Context().run(lambda: b.detach_until_readable(talk, persist=True))
    a.sendall(b"x")
    wait_all_parked()
    a.sendall(b"y")
    wait_all_parked()
    assert seen == [b"x", "talk"]
    gate.send(None)
    wait_all_parked()
    assert seen == [b"x", "talk", b"y", "talk"]
    gate.send(None)
    wait_all_parked()
    with a, b:
        pass
    wait_all_parked()


def test_an_error_ends_it(capsys: pytest.CaptureFixture[str], hub: Hub) -> None:
    a, b = socketpair()
    calls = 0

    def fail(conn: Socket) -> None:
        nonlocal calls
        calls += 1
        conn.recv(1)
        if calls == 2:
            raise LookupError("the second time")

    with a, b:
        b.detach_until_readable(fail, persist=True)
        for _ in range(3):
            a.sendall(b"x")
            wait_all_parked()
        assert calls == 2
        assert capsys.readouterr().err.count("LookupError: the second time") == 1
        assert b.recv(1) == b"x"  # it is anybody's again
    assert registrations(hub) == []


def test_an_error_leaves_no_cycle(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the first of those that are run one after another nor a later one."""

    def fail(conn: Socket) -> None:
        with conn:
            raise LookupError(str(conn.recv(1)))

    pairs = [socketpair() for _ in range(3)]
    gone = [weakref.ref(b) for _, b in pairs]
    for _, b in pairs:
        b.detach_until_readable(fail if b is not pairs[0][1] else Socket.close, persist=True)
    del b
    others = [a for a, _ in pairs]
    pairs.clear()
    gc.collect()
    gc.disable()
    try:
        for a in others:
            a.sendall(b"x")
        wait_all_parked()
        assert [ref() for ref in gone] == [None] * 3
    finally:
        gc.enable()
    assert capsys.readouterr().err.count("LookupError: b'x'") == 2
    for a in others:
        a.close()


def test_it_hands_over() -> None:
    a, b = socketpair()
    seen: list[Any] = []

    def first(conn: Socket) -> None:
        seen.append(("first", current(), conn.recv(1)))
        conn.detach_until_readable(second, persist=True)

    def second(conn: Socket) -> None:
        seen.append(("second", conn.recv(1)))

    with a, b:
        b.detach_until_readable(first, persist=True)
        wait_all_parked()
        a.sendall(b"abc")
        wait_all_parked()
        assert seen[0][1].done
        assert seen[0][::2] == ("first", b"a")
        assert seen[1:] == [("second", b"b"), ("second", b"c")]
    wait_all_parked()


def test_who_waits_to_receive_stays_the_only_one(capsys: pytest.CaptureFixture[str]) -> None:
    a, b = socketpair()
    readers: list[Task[bytes]] = []

    def leave_it_to_another(conn: Socket) -> None:
        conn.recv(1)
        readers.append(spawn(conn.recv, 1))
        yield_now()

    with a, b:
        b.detach_until_readable(leave_it_to_another, persist=True)
        a.sendall(b"x")
        wait_all_parked()
        assert "a task waits to receive" in capsys.readouterr().err
        a.sendall(b"y")
        assert readers[0].result() == b"y"


@pytest.mark.parametrize("where", ["in fn", "outside", "by detach", "after the bytes came"])
def test_closing_ends_it(where: str, hub: Hub) -> None:
    a, b = socketpair()
    tasks: list[Task[Any]] = []
    calls = 0

    def talk(conn: Socket) -> None:
        nonlocal calls
        calls += 1
        tasks.append(current())
        conn.recv(1)
        if where == "in fn":
            conn.close()

    b.detach_until_readable(talk, persist=True)
    a.sendall(b"x")
    wait_all_parked()
    assert tasks[0].state() == ("done" if where == "in fn" else f"read on fd {b.fileno()}")
    if where == "outside":
        b.close()
    elif where == "by detach":
        os.close(b.detach())
    elif where == "after the bytes came":
        a.sendall(b"y")
        hub.poll_now()
        assert tasks[0].state() == "ready"
        b.close()
    assert tasks[0].join(5)
    assert (calls, tasks[0].error) == (1, None)
    a.close()
    assert registrations(hub) == []


@pytest.mark.parametrize("when", ["waiting", "running", "swallowed", "ready"])
def test_cancelling_ends_it(when: str, hub: Hub) -> None:
    a, b = socketpair()
    tasks: list[Task[Any]] = []

    def talk(conn: Socket) -> None:
        tasks.append(current())
        conn.recv(100)
        if when in ("running", "swallowed"):
            try:
                Channel[None]().recv()
            except Cancelled:
                if when == "running":
                    raise

    with a, b:
        b.detach_until_readable(talk, persist=True)
        a.sendall(b"x")
        wait_all_parked()
        if when == "ready":
            a.sendall(b"y")
            hub.poll_now()
        tasks[0].cancel()
        assert tasks[0].join(5)
        assert tasks[0].cancelled
        assert len(tasks) == 1
        assert b._pollable.reader is None
    wait_all_parked()


@pytest.mark.parametrize("mine", [False, True])
def test_each_call_begins_with_the_callers_context(mine: bool) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="default")
    seen: list[str] = []
    pairs = [socketpair() for _ in range(2)]

    def talk(conn: Socket) -> None:
        conn.recv(1)
        seen.append(var.get())
        var.set("left by a call")

    def detach() -> None:
        if mine:
            var.set("mine")
        for _, b in pairs:
            b.detach_until_readable(talk, persist=True)

    contextvars.Context().run(detach)  # pytest's has something in it
    for _ in range(3):
        for a, _ in pairs:
            a.sendall(b"x")
        wait_all_parked()
    assert seen == ["mine" if mine else "default"] * 6
    for a, b in pairs:
        b.close()
        a.close()
    wait_all_parked()


def test_one_that_never_reads_starves_nobody() -> None:
    a, b = socketpair()
    c, d = socketpair()
    calls = 0

    def idle_talk(conn: Socket) -> None:
        nonlocal calls
        calls += 1
        if calls == 100_000:
            conn.close()  # the others had no turn: the test fails instead of hanging

    b.detach_until_readable(idle_talk, persist=True)
    reader = spawn(d.recv, 1)
    wait_all_parked()
    a.sendall(b"x")
    while not calls:
        yield_now()
    assert b._pollable.readable == YES  # and no worker, which by now may run something else
    c.sendall(b"y")
    assert reader.result() == b"y"
    assert 0 < calls < 1000
    for sock in (a, b, c, d):
        sock.close()
    wait_all_parked()


def test_another_hub_detaches_one_that_persists(hub: Hub) -> None:
    a, b = socketpair()
    first = spawn(b.recv, 1)
    wait_all_parked()  # this hub owns it
    a.sendall(b"x")
    first.join()
    seen: list[Any] = []

    def elsewhere() -> None:
        b.detach_until_readable(lambda conn: seen.append((this_hub(), conn.recv(1))), persist=True)
        this_hub().close()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    for _ in range(2):
        a.sendall(b"x")
        wait_all_parked()
    assert seen == [(hub, b"x")] * 2
    with a, b:
        pass
    wait_all_parked()


def test_it_is_closed_while_another_hubs_step_is_on_its_way(hub: Hub) -> None:
    a, b = socketpair()
    first = spawn(b.recv, 1)
    wait_all_parked()
    a.sendall(b"x")
    first.join()

    def elsewhere() -> None:
        b.detach_until_readable(print)
        this_hub().close()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    b.close()
    wait_all_parked()
    assert CLOSED.reader is None
    a.close()


def test_a_fin_that_came_with_the_first_bytes_is_not_lost() -> None:
    a, b = socketpair()
    seen: list[bytes] = []

    def talk(conn: Socket) -> None:
        seen.append(conn.recv(100))
        if not seen[-1]:
            conn.close()

    b.detach_until_readable(talk, persist=True)
    a.sendall(b"x")
    wait_all_parked()  # now the size is the usual one
    a.sendall(b"y")
    a.close()
    wait_all_parked()
    assert seen == [b"x", b"y", b""]


def test_urgent_data_does_not_make_it_spin() -> None:
    """After it a short read doesn't tell that nothing is left: the kernel is asked."""
    with listen(("127.0.0.1", 0)) as listener:
        a = socket.create_connection(listener.getsockname())
        b, _ = listener.accept()
    seen: list[bytes] = []
    b.detach_until_readable(lambda conn: seen.append(conn.recv(100)), persist=True)
    with a:
        a.send(b"!", socket.MSG_OOB)
        a.sendall(b"x")
        wait_all_parked()
        assert b._pollable.hup
        assert seen == [b"x"]
        a.sendall(b"y")
        wait_all_parked()
        assert seen == [b"x", b"y"]
    b.close()
    wait_all_parked()


def test_another_threads_recv_in_a_call_leaves_the_flags_alone(hub: Hub) -> None:
    a, b = socketpair()
    seen: list[bytes] = []

    def talk(conn: Socket) -> None:
        if len(seen) != 1:
            seen.append(conn.recv(100))
            return
        thread = threading.Thread(target=lambda: seen.append(conn.recv(100)))
        thread.start()
        thread.join()
        assert conn._pollable.readable is greenlet.getcurrent()

    b.detach_until_readable(talk, persist=True)
    for n in range(3):
        wait_all_parked()
        a.sendall(bytes([n]))
    wait_all_parked()
    assert seen == [b"\0", b"\1", b"\2"]
    with a, b:
        pass
    wait_all_parked()


def test_the_end_of_the_hub_closes_those_that_persist(hub: Hub) -> None:
    waiting, running = socketpair(), socketpair()
    ended: list[str] = []

    def talk(conn: Socket) -> None:
        try:
            conn.recv(1)
            Channel[None]().recv()
        finally:
            ended.append("finally")

    for _, b in (waiting, running):
        b.detach_until_readable(talk, persist=True)
    running[0].sendall(b"x")
    wait_all_parked()
    hub.close()
    assert ended == ["finally"]
    with waiting[0] as a:
        del b, waiting
        assert a.recv(1) == b""
    running[0].close()
    running[1].close()


def test_who_waits_for_it_is_told_of_its_hubs_end(hub: Hub) -> None:
    a, b = socketpair()
    tasks: list[Task[Any]] = []
    went = threading.Event()

    def talk(conn: Socket) -> None:
        tasks.append(current())
        conn.recv(100)

    def elsewhere() -> None:
        b.detach_until_readable(talk, persist=True)
        wait_all_parked()
        went.wait()
        this_hub().close()

    thread = threading.Thread(target=elsewhere)
    a.sendall(b"x")
    thread.start()
    while not tasks:
        pass
    waiting = spawn(tasks[0].exception)
    wait_all_parked()
    went.set()
    thread.join()
    assert isinstance(waiting.result(5), TaskCancelled)
    a.close()


def test_a_task_that_waits_for_it_is_told_of_its_error() -> None:
    a, b = socketpair()
    tasks: list[Task[Any]] = []

    def talk(conn: Socket) -> None:
        tasks.append(current())
        if not conn.recv(1):
            conn.close()
            raise LookupError("the end")

    b.detach_until_readable(talk, persist=True)
    a.sendall(b"x")
    wait_all_parked()
    waiting = spawn(tasks[0].exception)
    wait_all_parked()
    a.close()
    assert isinstance(waiting.result(), LookupError)
