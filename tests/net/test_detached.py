"""Connections that hold no task."""

from __future__ import annotations

import contextvars
import gc
import socket
import threading
import tracemalloc
import weakref
from errno import EBADF
from typing import Any

import pytest

from greenpump.hub.hub import Hub
from greenpump.hub.local import this_hub
from greenpump.hub.spawning import current, spawn, yield_now
from greenpump.net.listen import socketpair
from greenpump.net.socket import Socket
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
    tracemalloc.start()
    try:
        for fd in fds:
            Socket(fileno=fd).detach_until_readable(handler)
        wait_all_parked()
        cost = tracemalloc.get_traced_memory()[0] / len(fds)
    finally:
        tracemalloc.stop()
    for peer in peers:
        peer.close()
    wait_all_parked()
    assert cost < 700
    assert handler.seen == [b""] * len(fds)
