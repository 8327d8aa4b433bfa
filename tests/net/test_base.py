"""Time limits, lifetime, and what is left behind: what the stdlib has nothing to compare with."""

from __future__ import annotations

import gc
import os
import socket
import threading
import warnings
from collections.abc import Callable
from errno import EBADF
from typing import Any

import pytest

from greenpump.hub.hub import Hub
from greenpump.hub.local import this_hub
from greenpump.hub.scope import move_on_after
from greenpump.hub.spawning import spawn, yield_now
from greenpump.hub.task import Task
from greenpump.net.listen import socketpair
from greenpump.net.socket import Socket
from greenpump.testing import virtual_clock, wait_all_parked

from .conftest import registrations


def fill(sock: Socket) -> None:
    """Send until the kernel takes no more."""
    sock.setblocking(False)
    for size in (65536, 1024, 1):
        try:
            while True:
                sock.send(bytes(size))
        except BlockingIOError:
            pass
    sock.setblocking(True)


def now() -> float:
    return this_hub().timers.clock() / 1e9


# -- timeouts and deadlines ----------------------------------------------------------------------


@virtual_clock()
def test_a_timeout_is_for_each_operation_and_says_which() -> None:
    a, b = socketpair()
    with a, b:
        a.settimeout(30)
        start = now()
        for _ in range(2):
            with pytest.raises(TimeoutError, match=rf"^timed out: recv on fd {a.fileno()}") as info:
                a.recv(10)
            assert info.value.errno is None
        assert 60 <= round(now() - start, 6) < 60.1
        b.sendall(b"x")
        assert a.recv(10) == b"x"


def test_a_timeout_names_the_peer() -> None:
    with Socket() as listener, Socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        client.settimeout(0.001)
        with pytest.raises(TimeoutError) as info:
            client.recv_into(bytearray(1))
        assert str(info.value).endswith(
            f"recv_into on fd {client.fileno()} with {listener.getsockname()!r}"
        )


@virtual_clock()
def test_the_timeout_of_sendall_is_for_the_whole_call() -> None:
    a, b = socketpair()
    with a, b:
        fill(a)
        a.settimeout(10)
        start = now()
        sending = spawn(a.sendall, bytes(10_000_000))
        for _ in range(3):  # each time it gets on a little
            with move_on_after(3):
                b.recv_exactly(200_000)
                b.recv(1, socket.MSG_PEEK)
                while True:
                    wait_forever()
        assert isinstance(sending.exception(), TimeoutError)
        assert 10 <= round(now() - start, 6) < 10.1


def wait_forever() -> None:
    a, b = socketpair()
    with a, b:
        a.recv(1)


Operation = Callable[[Socket], object]
READS: list[Operation] = [
    lambda sock: sock.recv(1),
    lambda sock: sock.recv(1, socket.MSG_PEEK),
    lambda sock: sock.recv_into(bytearray(1)),
    lambda sock: sock.recvfrom(1),
    lambda sock: sock.recvmsg(1),
    lambda sock: sock.recv_exactly(5),
    lambda sock: sock.recv_until(b"\n"),
]
WRITES: list[Operation] = [
    lambda sock: sock.send(b"x"),
    lambda sock: sock.sendall(b"x"),
    lambda sock: sock.sendmsg([b"x"]),
]


@virtual_clock()
@pytest.mark.parametrize("operation", READS)
def test_a_read_deadline_ends_each_read_until_it_is_set_anew(operation: Operation) -> None:
    a, b = socketpair()
    with a, b:
        deadline = now() + 5
        a.set_read_deadline(deadline)
        for _ in range(2):
            with pytest.raises(TimeoutError, match="timed out: recv"):
                operation(a)
            assert deadline <= now() < deadline + 0.1
        b.sendall(b"hello\n")
        with pytest.raises(TimeoutError):
            operation(a)  # passed is passed, even with data at hand, as in Go
        a.sendall(b"x")  # the other direction doesn't care
        a.set_read_deadline(None)
        assert operation(a)


@virtual_clock()
@pytest.mark.parametrize("operation", WRITES)
def test_a_write_deadline_ends_each_write(operation: Operation) -> None:
    a, b = socketpair()
    with a, b:
        fill(a)
        a.set_write_deadline(now() + 5)
        with pytest.raises(TimeoutError, match="timed out: send"):
            operation(a)
        b.sendall(b"x")
        assert a.recv(1) == b"x"


@virtual_clock()
@pytest.mark.parametrize("operation", READS)
def test_a_deadline_reaches_who_waits_already(operation: Operation) -> None:
    a, b = socketpair()
    with a, b:
        waiting = [spawn(operation, a) for _ in range(3)]
        wait_all_parked()
        a.set_deadline(now() + 7)
        start = now()
        wait_all_parked()
        assert not any(task.done for task in waiting)
        for task in waiting:
            assert isinstance(task.exception(), TimeoutError)
        assert 7 <= round(now() - start, 6) < 7.1


@virtual_clock()
def test_a_deadline_reaches_a_writer_that_waits_and_one_in_the_past_ends_it_now() -> None:
    a, b = socketpair()
    with a, b:
        fill(a)
        writing, reading = spawn(a.sendall, b"x"), spawn(a.recv, 1)
        wait_all_parked()
        start = now()
        a.set_write_deadline(0)
        assert isinstance(writing.exception(), TimeoutError)
        assert now() == start
        assert not reading.done
        b.sendall(b"y")
        assert reading.result() == b"y"


@virtual_clock()
def test_a_deadline_that_is_put_off_or_cleared_ends_nothing() -> None:
    a, b = socketpair()
    with a, b:
        a.set_read_deadline(now() + 1)
        first, second = spawn(a.recv, 1), spawn(a.recv, 1)
        wait_all_parked()
        a.set_read_deadline(now() + 100)
        start = now()
        assert isinstance(first.exception(), TimeoutError)
        assert now() - start >= 100
        assert isinstance(second.exception(), TimeoutError)
        a.set_read_deadline(now() + 1)
        third = spawn(a.recv, 1)
        wait_all_parked()
        a.set_read_deadline(None)
        assert not third.join(50)
        b.sendall(b"z")
        assert third.result() == b"z"


@virtual_clock()
def test_the_earlier_of_timeout_and_deadline_counts() -> None:
    a, b = socketpair()
    with a, b:
        start = now()
        a.settimeout(2)
        a.set_deadline(start + 3)
        for at in (2, 3, 3):
            with pytest.raises(TimeoutError):
                a.recv(1)
            assert at <= round(now() - start, 6) < at + 0.1
        a.set_deadline(None)
        assert a.gettimeout() == 2
        a.settimeout(None)
        assert a.gettimeout() is None


@pytest.mark.parametrize(
    ("value", "error"), [(float("nan"), ValueError), ("1", TypeError), ([], TypeError)]
)
def test_a_wrong_deadline(value: Any, error: type[Exception]) -> None:
    a, b = socketpair()
    with a, b, pytest.raises(error):
        a.set_deadline(value)


def test_a_far_deadline_is_none() -> None:
    a, b = socketpair()
    with a, b:
        a.set_deadline(float("inf"))
        assert a.gettimeout() is None
        b.sendall(b"x")
        assert a.recv(1) == b"x"
        a.set_deadline(float("-inf"))
        with pytest.raises(TimeoutError):
            a.send(b"x")


def test_a_deadline_on_a_closed_socket() -> None:
    a, b = socketpair()
    a.close()
    b.close()
    with pytest.raises(OSError) as info:
        a.set_deadline(None)
    assert info.value.errno == EBADF


# -- cancels -------------------------------------------------------------------------------------


@virtual_clock()
def test_a_cancelled_wait_leaves_the_socket_usable() -> None:
    a, b = socketpair()
    with a, b:
        for _ in range(3):
            with move_on_after(1) as scope:
                a.recv(10)
            assert scope.expired
        task = spawn(a.recv, 10)
        wait_all_parked()
        task.cancel()
        assert not isinstance(task.exception(), TimeoutError)
        assert task.cancelled
        b.sendall(b"x")
        assert a.recv(10) == b"x"
        fill(a)
        with move_on_after(1) as scope:
            a.sendall(b"x")
        assert scope.expired
        while len(b.recv(65536)) == 65536:
            pass
        a.sendall(b"y")


def test_a_cancel_takes_no_bytes_with_it() -> None:
    a, b = socketpair()
    with a, b:
        a.sendall(b"x" * 200)
        a.shutdown(socket.SHUT_WR)
        taken = 0
        with move_on_after() as scope:
            scope.cancel()
            while b.recv(1):  # the quota's yield is where it is cancelled
                taken += 1
        assert 0 < taken < 200
        while data := b.recv(100):
            taken += len(data)
        assert taken == 200


# -- the end -------------------------------------------------------------------------------------


def test_closing_wakes_everybody_with_ebadf(hub: Hub) -> None:
    a, b = socketpair()
    with b:
        fill(a)
        tasks: list[Task[Any]] = [spawn(operation, a) for operation in READS * 2 + WRITES * 2]
        wait_all_parked()
        assert registrations(hub) == [a.fileno()]
        a.close()
        for task in tasks:
            error = task.exception()
            assert isinstance(error, OSError)
            assert error.errno == EBADF
        assert registrations(hub) == []


def test_detaching_wakes_everybody_and_keeps_the_fd_open(hub: Hub) -> None:
    a, b = socketpair()
    with b:
        task = spawn(a.recv, 1)
        wait_all_parked()
        fd = a.detach()
        error = task.exception()
        assert isinstance(error, OSError)
        assert error.errno == EBADF
        assert registrations(hub) == []
        assert os.get_blocking(fd)
        b.sendall(b"x")
        assert os.read(fd, 5) == b"x"
        os.close(fd)


def test_a_timed_socket_is_detached_as_the_stdlib_does() -> None:
    a, b = socketpair()
    with b:
        a.settimeout(3)
        fd = a.detach()
        assert not os.get_blocking(fd)
        os.close(fd)


def test_a_number_that_is_used_again_gets_no_event_of_the_old_one() -> None:
    a, b = socketpair()
    with b:
        task = spawn(a.recv, 1)
        wait_all_parked()
        twin = a.dup()  # keeps the open file, and so its registration, alive
        a.close()
        task.join()
        c, d = socketpair()
        with twin, c, d:
            assert a.fileno() == -1
            reading = spawn(c.recv, 10)
            wait_all_parked()
            b.sendall(b"for the twin")
            yield_now()
            assert twin.recv(100) == b"for the twin"
            assert not reading.done
            d.sendall(b"mine")
            assert reading.result() == b"mine"


def test_a_socket_that_is_dropped_leaves_no_registration(hub: Hub) -> None:
    a, b = socketpair()
    with b:
        b.sendall(b"x")
        a.recv(1)
        task = spawn(a.recv, 1)
        wait_all_parked()
        task.cancel()
        task.join()
        del task
        assert registrations(hub) == [a.fileno()]
        gc.collect()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del a
            gc.collect()
        assert [str(w.message)[:30] for w in caught] == ["unclosed <greenpump.net.socket"]
        assert registrations(hub) == []


def test_a_number_closed_behind_our_back(hub: Hub) -> None:
    a, b = socketpair()
    with b:
        task = spawn(a.recv, 1)
        wait_all_parked()
        os.close(a.fileno())
        with pytest.raises(OSError) as info:
            a.close()
        assert info.value.errno == EBADF
        error = task.exception()
        assert isinstance(error, OSError)
        assert error.errno == EBADF
        assert registrations(hub) == []


def test_a_socket_outlives_its_hub(hub: Hub) -> None:
    a, b = socketpair()
    with a, b:
        reading = spawn(a.recv, 10)
        wait_all_parked()
        b.sendall(b"first")
        assert reading.result() == b"first"
        hub.close()
        reading = spawn(a.recv, 10)
        wait_all_parked()
        b.sendall(b"second")
        assert reading.result() == b"second"
        b.sendall(b"third")
        assert a.recv(10) == b"third"
        fill(a)
        sending = spawn(a.sendall, b"x")
        wait_all_parked()
        while len(b.recv(1 << 20)) > 1 and not sending.done:
            pass
        sending.result()


def test_a_socket_that_was_never_made_is_dropped_quietly() -> None:
    with pytest.raises(ValueError, match="negative file descriptor"):
        Socket(fileno=-1)
    with pytest.raises(OSError):
        Socket(999)
    gc.collect()


def test_no_dict() -> None:
    with Socket() as sock, pytest.raises(AttributeError):
        sock.nonsense = 1  # type: ignore[attr-defined]


# -- other hubs ----------------------------------------------------------------------------------


def in_thread(fn: Callable[[], Any]) -> Callable[[], Any]:
    """Run ``fn`` in a thread with a hub of its own."""
    result: list[Any] = []

    def body() -> None:
        try:
            result.append(fn())
        except BaseException as error:
            result.append(error)
        this_hub().close()

    thread = threading.Thread(target=body)
    thread.start()

    def join() -> Any:
        while thread.is_alive():
            yield_now()
        thread.join()
        return result[0]

    return join


def test_a_task_of_another_hub_reads_and_is_served_in_turn() -> None:
    a, b = socketpair()
    with a, b:
        first = spawn(a.recv, 1)
        wait_all_parked()  # this hub owns it now
        join = in_thread(lambda: [a.recv(1), a.recv(5)])
        while first.hub.table[a.fileno()].crowd is None:
            yield_now()
        b.sendall(b"12")
        assert first.result() == b"1"
        while not _empty(a):
            yield_now()
        b.sendall(b"34567")
        assert join() == [b"2", b"34567"]


def _empty(sock: Socket) -> bool:
    try:
        sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    return False


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_task_of_another_hub_writes(half_closed: bool) -> None:
    a, b = socketpair()
    with a, b:
        first = spawn(a.recv, 1)
        wait_all_parked()  # this hub owns it, and takes it for writable
        if half_closed:
            b.shutdown(socket.SHUT_WR)
            assert first.result() == b""
        join = in_thread(lambda: a.sendall(bytes(3_000_000)))
        while first.hub.table[a.fileno()].crowd is None:
            yield_now()  # it sits there: it is not woken again and again for the half-close
        b.recv_exactly(3_000_000)
        assert join() is None
        if not half_closed:
            b.sendall(b"x")
            assert first.result() == b"x"


def test_a_deadline_reaches_a_task_of_another_hub() -> None:
    a, b = socketpair()
    with a, b:
        first = spawn(a.recv, 1)
        wait_all_parked()
        join = in_thread(lambda: a.recv(1))
        while first.hub.table[a.fileno()].crowd is None:
            yield_now()
        a.set_deadline(0)
        assert isinstance(first.exception(), TimeoutError)
        assert isinstance(join(), TimeoutError)


def test_closing_reaches_a_task_of_another_hub() -> None:
    a, b = socketpair()
    with b:
        first = spawn(a.recv, 1)
        wait_all_parked()
        join = in_thread(lambda: a.recv(1))
        while first.hub.table[a.fileno()].crowd is None:
            yield_now()
        a.close()
        assert isinstance(first.exception(), OSError)
        assert join().errno == EBADF
