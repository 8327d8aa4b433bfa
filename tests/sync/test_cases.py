"""What a select can wait for beside channels: events, tasks that end, sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub.local import this_hub
from greenpump.sync.cases import (
    Case,
    Selection,
    as_case,
    readable,
    receiving,
    sending,
    writable,
)
from greenpump.sync.channel import Channel
from greenpump.sync.select import select
from greenpump.testing import virtual_clock, wait_all_parked

Pair = tuple[gp.Socket, gp.Socket]


@pytest.fixture
def pair(hub: object) -> Iterator[Pair]:
    ours, theirs = gp.socketpair()
    with ours, theirs:
        yield ours, theirs


def fill(sock: gp.Socket) -> int:
    """Send until the kernel takes no more; how many bytes."""
    sock.settimeout(0)
    sent = 0
    try:
        while True:
            sent += sock.send(bytes(65536))
    except BlockingIOError:
        sock.settimeout(None)
        return sent


# -- what is none ----------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [gp.Event(), gp.Queue[int](), 5])
def test_what_is_no_channel_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match=r"select can receive from a Channel, not .*as is"):
        receiving(thing)
    with pytest.raises(TypeError, match=r"select can send on a Channel, not .*as is"):
        sending(thing, 1)


def test_what_is_no_socket_of_ours_is_refused() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for make in (readable, writable):
            with pytest.raises(TypeError, match=r"a greenpump.Socket, not .*; see from_stdlib"):
                make(ours)  # type: ignore[arg-type]


# -- events ----------------------------------------------------------------------------------------


def test_an_event_that_is_set_is_ready() -> None:
    event = gp.Event()
    assert select(event, timeout=0) is None
    event.set()
    assert select(receiving(Channel()), event) == (1, event)


def test_setting_an_event_wakes_the_select_and_the_tasks() -> None:
    event, channel = gp.Event(), Channel[int]()
    tasks: list[gp.Task[Any]] = [
        gp.spawn(select, receiving(channel), event),
        gp.spawn(event.wait),
        gp.spawn(select, event),
    ]
    wait_all_parked()
    assert tasks[0].state() == f"select of receiving({channel!r}), {event!r}"
    event.set()
    assert [task.result() for task in tasks] == [(1, event), True, (0, event)]
    assert not event._waiting
    assert not channel._receivers


def test_a_select_that_something_else_ended_leaves_the_event() -> None:
    event, channel = gp.Event(), Channel[int]()
    task = gp.spawn(select, event, receiving(channel))
    wait_all_parked()
    channel.send(1)
    event.set()
    assert task.result() == (1, 1)
    assert not event._waiting


def test_an_event_that_is_set_while_the_select_joins_is_seen() -> None:
    class SetOnSecondLook(gp.Event):
        looks = 0

        def is_set(self) -> bool:
            self.looks += 1
            if self.looks == 2:
                self.set()
            return super().is_set()

    event = SetOnSecondLook()
    assert select(receiving(Channel()), event) == (1, event)
    assert event.looks == 2


def test_an_event_set_by_another_thread() -> None:
    for _ in range(50):
        event, channel = gp.Event(), Channel[int]()
        thread = threading.Thread(target=event.set)
        thread.start()
        assert select(receiving(channel), event) == (1, event)
        thread.join()


# -- tasks -----------------------------------------------------------------------------------------


def test_the_end_of_a_task() -> None:
    task = gp.spawn(int)
    assert select(task, timeout=0) is None
    assert select(receiving(Channel()), task) == (1, task)
    assert select(task) == (0, task), "also when it has ended before"
    assert not task._joiners


def test_a_task_that_ends_while_the_select_joins_is_seen() -> None:
    task = gp.spawn(int)
    task.join()

    class Late(Case):
        def joined(self, selection: Selection, number: int) -> Any:
            return as_case(task).joined(selection, number)

    assert select(receiving(Channel()), Late()) == (1, None)
    assert not task._joiners


def test_a_task_s_error_is_its_own() -> None:
    task = gp.spawn(int, "seven")
    joiner = gp.spawn(task.exception)
    assert select(task) == (0, task)
    assert isinstance(joiner.result(), ValueError)


def test_a_select_that_something_else_ended_leaves_the_task() -> None:
    task, channel = gp.spawn(gp.sleep, 3600), Channel[int]()
    waiter = gp.spawn(select, task, sending(channel, 1))
    wait_all_parked()
    assert channel.recv() == 1
    assert waiter.result() == (1, None)
    assert not task._joiners
    task.cancel()
    assert select(task) == (0, task)


def test_a_task_can_t_wait_for_its_own_end() -> None:
    with pytest.raises(RuntimeError, match="would wait for itself"):
        select(gp.current())


def test_a_task_of_another_hub() -> None:
    def main() -> None:
        for _ in range(50):
            task = gp.spawn_on(gp.hubs()[1], int)
            assert select(receiving(Channel()), task) == (1, task)

    gp.run(main, hubs=2)


# -- sockets ---------------------------------------------------------------------------------------


def test_a_socket_with_data_is_readable_again_and_again(pair: Pair) -> None:
    ours, theirs = pair
    case = readable(ours)
    assert select(case, timeout=0) is None
    theirs.send(b"x")
    assert select(receiving(Channel()), case) == (1, ours)
    assert select(case) == (0, ours)
    assert ours.recv(10) == b"x"
    assert select(case, timeout=0) is None


def test_data_that_comes_later_wakes_the_select(pair: Pair) -> None:
    ours, theirs = pair
    for number in range(20):
        task = gp.spawn(select, receiving(Channel()), readable(ours))
        wait_all_parked()
        assert not task.done
        theirs.send(b"%d" % number)
        assert task.result() == (1, ours)
        assert ours.recv(10) == b"%d" % number
        assert ours._pollable.crowd is None


def test_a_socket_that_recv_has_waited_on_before(pair: Pair) -> None:
    ours, theirs = pair
    for _ in range(3):
        reader = gp.spawn(ours.recv, 1)
        wait_all_parked()
        theirs.send(b"ab")
        assert reader.result() == b"a"
        assert select(readable(ours)) == (0, ours)
        assert ours.recv(10) == b"b"
        task = gp.spawn(select, readable(ours))
        wait_all_parked()
        theirs.send(b"c")
        assert task.result() == (0, ours)
        assert ours.recv(10) == b"c"


def test_end_of_stream_and_close_are_readable(pair: Pair) -> None:
    ours, theirs = pair
    task = gp.spawn(select, readable(ours))
    wait_all_parked()
    theirs.close()
    assert task.result() == (0, ours)
    assert ours.recv(1) == b""
    ours.close()
    assert select(readable(ours)) == (0, ours)


def test_closing_the_socket_wakes_the_select(pair: Pair) -> None:
    ours, _ = pair
    task = gp.spawn(select, readable(ours), receiving(Channel()))
    wait_all_parked()
    assert task.state().startswith(f"select of readable(fd {ours.fileno()}), receiving(<Channel")
    ours.close()
    assert task.result() == (0, ours)


def test_a_select_that_something_else_ended_leaves_the_socket(pair: Pair) -> None:
    ours, theirs = pair
    channel = Channel[int]()
    task = gp.spawn(select, readable(ours), receiving(channel))
    reader = gp.spawn(ours.recv, 10)
    wait_all_parked()
    channel.send(1)
    assert task.result() == (1, 1)
    theirs.send(b"x")
    assert reader.result() == b"x", "the readiness is the next one's"
    assert ours._pollable.crowd is None


def test_data_that_came_just_after_the_claim_is_the_next_reader_s(pair: Pair) -> None:
    ours, theirs = pair
    channel = Channel[int]()
    task = gp.spawn(select, readable(ours), receiving(channel))
    reader = gp.spawn(ours.recv, 10)
    wait_all_parked()
    theirs.send(b"x")
    channel.send(1)  # the seat still stands in the crowd when the edge is delivered
    this_hub().poll_now()
    assert reader.result() == b"x"
    assert task.result() == (1, 1)


def test_room_to_write(pair: Pair) -> None:
    ours, theirs = pair
    assert select(writable(ours)) == (0, ours)
    left = fill(ours)
    assert select(writable(ours), timeout=0) is None
    task = gp.spawn(select, readable(ours), writable(ours))
    wait_all_parked()
    assert not task.done
    while left:
        left -= len(theirs.recv(1 << 20))
    assert task.result() == (1, ours)


@virtual_clock()
def test_a_timeout_leaves_the_socket() -> None:
    ours, theirs = gp.socketpair()
    with ours, theirs:
        assert select(readable(ours), timeout=3) is None
        assert ours._pollable.crowd is None


def test_a_socket_of_another_hub(pair: Pair) -> None:
    ours, theirs = pair
    channel = Channel[int]()

    def elsewhere() -> None:
        for _ in range(20):
            assert select(readable(ours), receiving(channel)) == (0, ours)
            ours.send(ours.recv(1))
        assert select(readable(ours), receiving(channel)) == (1, 7)

    def main() -> None:
        registered = gp.spawn(ours.recv, 1)
        wait_all_parked()
        theirs.send(b"x")
        assert registered.result() == b"x"
        task = gp.spawn_on(gp.hubs()[1], elsewhere)
        for _ in range(20):
            theirs.send(b"y")
            assert theirs.recv(1) == b"y"
        channel.send(7)
        task.result()
        wait_all_parked()  # its seat is given up by a step that it posted to this hub
        assert ours._pollable.crowd is None

    gp.run(main, hubs=2)
