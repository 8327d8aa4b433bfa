"""Pollable: who is woken by what, on fds of every kind."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.hub.local import this_hub
from greenpump.hub.pollable import NO, READ, VACANT, WRITE, YES, Pollable
from greenpump.hub.task import Task
from greenpump.testing import virtual_clock, wait_all_parked


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket, Pollable]]:
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    pollable = Pollable(left.fileno())
    pollable.readable = NO
    with left, right:
        yield left, right, pollable
        pollable.close()


Pair = tuple[socket.socket, socket.socket, Pollable]


def fill(sock: socket.socket) -> None:
    try:
        while True:
            sock.send(bytes(65536))
    except BlockingIOError:
        pass


def drain(sock: socket.socket) -> None:
    try:
        while sock.recv(65536):
            pass
    except BlockingIOError:
        pass


def test_data_wakes_the_reader(pair: Pair) -> None:
    left, right, pollable = pair
    task = gp.spawn(pollable.wait_read)
    wait_all_parked()
    assert task.state() == f"read on fd {left.fileno()}"
    right.send(b"x")
    task.result(5)


def test_room_wakes_the_writer(pair: Pair) -> None:
    left, right, pollable = pair
    pollable.register(this_hub())
    fill(left)
    pollable.filled()
    task = gp.spawn(pollable.wait_write)
    wait_all_parked()
    assert task.state() == f"write on fd {left.fileno()}"
    assert pollable.writable is False
    drain(right)
    task.result(5)


def test_end_of_file_wakes_the_reader_and_stays(pair: Pair) -> None:
    _, right, pollable = pair
    task = gp.spawn(pollable.wait_read)
    wait_all_parked()
    right.shutdown(socket.SHUT_WR)
    task.result(5)
    assert pollable.hup
    pollable.drained()
    assert pollable.readable == YES  # a read tells of the end as often as it is asked


def test_a_reset_wakes_reader_and_writer() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    with listener, client, server:
        server.setblocking(False)
        pollable = Pollable(server.fileno())
        pollable.register(this_hub())
        pollable.readable = NO
        fill(server)
        pollable.filled()
        tasks = [gp.spawn(pollable.wait_read), gp.spawn(pollable.wait_write)]
        wait_all_parked()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
        for task in tasks:
            task.result(5)
        pollable.close()


def test_several_readers_are_served_in_order_one_for_one_readiness(pair: Pair) -> None:
    left, right, pollable = pair
    order: list[int] = []

    def reader(n: int) -> None:
        pollable.wait(READ)
        order.append(n)
        left.recv(1)
        pollable.more_to_read()

    tasks = [gp.spawn(reader, n) for n in range(5)]
    wait_all_parked()
    right.send(b"12345")
    for task in tasks:
        task.result(5)
    assert order == [0, 1, 2, 3, 4]
    assert pollable.crowd is None
    assert pollable.reader is None


def test_one_readiness_wakes_one_reader(pair: Pair) -> None:
    _, right, pollable = pair
    tasks = [gp.spawn(pollable.wait, READ) for _ in range(5)]
    wait_all_parked()
    right.send(b"x")
    wait_all_parked()
    assert [task.done for task in tasks] == [True, False, False, False, False]
    pollable.close()
    for task in tasks:
        task.result(5)


def test_close_wakes_everybody(pair: Pair) -> None:
    left, _, pollable = pair
    pollable.register(this_hub())
    fill(left)
    pollable.filled()
    tasks = [gp.spawn(pollable.wait, direction) for direction in (READ, WRITE, READ, WRITE)]
    wait_all_parked()
    pollable.close()
    for task in tasks:
        task.result(5)
    assert this_hub().table[left.fileno()] is VACANT


def test_a_number_that_is_used_again_gets_no_old_events(hub: Hub) -> None:
    left, right = socket.socketpair()
    old = Pollable(left.fileno())
    old.register(hub)
    generation = old.generation
    right.send(b"x")  # an event is in the kernel's list
    number = left.fileno()
    old.close()
    left.close()
    other, peer = socket.socketpair()
    if other.fileno() != number:
        os.dup2(other.fileno(), number)
        other.close()
    other.detach()
    new = Pollable(number)
    new.readable = NO
    task = gp.spawn(new.wait_read)
    wait_all_parked()
    assert not task.done
    assert new.generation != generation
    hub.deliver([1, number, generation])  # as if it had been fetched before
    assert not hub.ready
    assert new.readable == NO
    peer.send(b"y")
    task.result(5)
    new.close()
    os.close(number)
    right.close()
    peer.close()


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_epoll_refuses(what: str, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_CREAT) if what == "file" else os.open(tmp_path, 0)
    try:
        with pytest.raises(gp.NotPollable, match="offload"):
            Pollable(fd).wait(READ)
    finally:
        os.close(fd)


def test_a_bad_fd(hub: Hub) -> None:
    left, right = socket.socketpair()
    pollable = Pollable(left.fileno())
    left.close()
    right.close()
    with pytest.raises(OSError) as caught:
        pollable.wait(READ)
    assert caught.value.errno == 9
    assert hub.current is hub.main
    gp.yield_now()


def test_pipes(hub: Hub) -> None:
    reader, writer = os.pipe()
    pollable = Pollable(reader)
    pollable.readable = NO
    task = gp.spawn(pollable.wait_read)
    wait_all_parked()
    os.write(writer, b"x")
    task.result(5)
    os.close(writer)
    pollable.readable = NO
    pollable.wait_read()
    pollable.close()
    os.close(reader)


@pytest.mark.parametrize("direction", [READ, WRITE])
def test_a_deadline(direction: int, pair: Pair) -> None:
    left, _, pollable = pair
    pollable.register(this_hub())
    fill(left)
    wait_all_parked()
    pollable.readable, pollable.writable = NO, False
    with virtual_clock() as clock:
        before = clock.now()
        assert pollable.wait(direction, this_hub().timers.after(7)) is False
        assert clock.now() - before == pytest.approx(7)
    assert pollable.reader is None
    assert pollable.writer is None


def run_on_another_hub(fn: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []

    def body() -> None:
        results.append(fn())
        this_hub().close()

    thread = threading.Thread(target=body)
    thread.start()
    return thread, results


def finish(thread: threading.Thread, results: list[Any]) -> Any:
    while not results:
        gp.sleep(0.001)
    thread.join()
    return results[0]


def test_a_reader_of_another_hub(pair: Pair) -> None:
    _, right, pollable = pair
    pollable.register(this_hub())
    thread, results = run_on_another_hub(lambda: pollable.wait(READ))
    while pollable.crowd is None:
        gp.sleep(0.001)
    right.send(b"x")
    assert finish(thread, results) is True
    assert pollable.crowd is None


def test_a_reader_of_another_hub_finds_what_is_there_already(pair: Pair) -> None:
    _, right, pollable = pair
    pollable.register(this_hub())
    right.send(b"x")
    gp.sleep(0.001)  # the edge is gone
    assert finish(*run_on_another_hub(lambda: pollable.wait(READ))) is True


def test_a_deadline_of_a_reader_of_another_hub(pair: Pair, hub: Hub) -> None:
    _, _, pollable = pair
    pollable.register(hub)

    def wait() -> bool:
        return pollable.wait(READ, this_hub().timers.after(0.01))

    assert finish(*run_on_another_hub(wait)) is False
    gp.sleep(0.001)
    assert pollable.crowd is None


def test_a_cancelled_reader_of_another_hub_leaves_its_readiness_to_the_next(pair: Pair) -> None:
    _, right, pollable = pair
    pollable.register(this_hub())

    scopes: list[gp.Scope] = []

    def wait_and_be_cancelled() -> bool:
        with gp.move_on_after() as scope:
            scopes.append(scope)
            pollable.wait(READ)
        return scope.expired

    thread, results = run_on_another_hub(wait_and_be_cancelled)
    while pollable.crowd is None:
        gp.sleep(0.0005)
    tasks: list[Task[bool]] = [gp.spawn(pollable.wait, READ)]
    scopes[0].cancel()
    assert finish(thread, results) is True
    right.send(b"x")
    assert tasks[0].result(5) is True


def test_a_level_triggered_fd_that_is_closed_before_its_crowd_is_passed_on() -> None:
    fixed, fills = gp.socketpair()
    other, tells = gp.socketpair()

    def read() -> None:
        for _ in range(6):
            fixed.recv(1)

    def close() -> None:
        other.recv(1)
        fixed.close()

    with fills, other, tells:
        reader = gp.spawn(read)
        gp.yield_now()
        for _ in range(6):
            fills.send(b"x")
            wait_all_parked()
        reader.join()
        assert fixed._pollable.level
        closer = gp.spawn(close)
        gp.yield_now()
        tells.send(b"x")  # its reader stands in the run queue before root,
        fills.send(b"x")  # which is asked to see to the one that nobody reads
        closer.join()
        wait_all_parked()
        for _ in range(5):  # root's turns; it would tell main of its failure
            gp.yield_now()
