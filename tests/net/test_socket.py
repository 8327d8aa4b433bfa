"""The hot path and connections: what can't be seen beside the stdlib's."""

from __future__ import annotations

import errno
import http.client
import os
import resource
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from greenpump.hub.hub import Hub
from greenpump.hub.local import this_hub
from greenpump.hub.pollable import NO, PERHAPS, QUOTA, VAIN, YES
from greenpump.hub.scope import move_on_after, timeout
from greenpump.hub.spawning import spawn, yield_now
from greenpump.hub.task import Task
from greenpump.net import socket as module
from greenpump.net.listen import socketpair
from greenpump.net.socket import Socket
from greenpump.testing import virtual_clock, wait_all_parked

from .conftest import registrations

LOCAL = ("127.0.0.1", 0)


def listener() -> Socket:
    sock = Socket()
    sock.bind(LOCAL)
    sock.listen()
    return sock


class Calls:
    """Counts what the C code is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        for name in ("_recv", "_send", "_os_read", "_os_write"):
            monkeypatch.setattr(module, name, self._counting(name, getattr(module, name)))

    def _counting(self, name: str, call: Any) -> Any:
        def counted(*args: Any) -> Any:
            self.made.append(name)
            return call(*args)

        return counted


# -- the hot path --------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 60])
def test_a_steady_echo_makes_one_recv_and_one_send(
    monkeypatch: pytest.MonkeyPatch, timeout: float | None
) -> None:
    a, b = socketpair()
    with a, b:
        b.settimeout(timeout)

        def echo() -> None:
            while data := b.recv(16384):
                b.sendall(data)

        task = spawn(echo)
        for _ in range(2):  # the second read parks where all the others will
            a.sendall(b"x")
            a.recv(1)
            wait_all_parked()
        made = Calls(monkeypatch).made
        b._pollable.ask = None  # the first read, before the registration, may have asked
        for _ in range(5):
            os.write(a.fileno(), b"y" * 64)
            wait_all_parked()
            assert b._pollable.ask is None  # nor was the kernel asked anything else
        recv = "_os_read" if timeout is None else "_recv"
        assert made == [recv, "_os_write"] * 5
        a.shutdown(socket.SHUT_WR)
        task.join()


def settled(a: Socket, b: Socket, size: int) -> None:
    """Messages read to the byte until the kernel has been asked in vain often enough."""
    for _ in range(VAIN + 2):
        receiver = spawn(b.recv, size)
        wait_all_parked()
        a.sendall(b"x" * size)
        assert len(receiver.result()) == size
    assert b._pollable.level


def test_a_full_read_that_was_waited_for_leaves_the_rest_to_be_read() -> None:
    a, b = socketpair()
    with a, b, timeout(5):
        for message in (b"a", b"b", b"c", b"dddd" + b"eeee"):
            receiver = spawn(b.recv, 4)
            wait_all_parked()
            a.sendall(message)
            assert receiver.result() == message[:4]
        assert not b._pollable.level
        assert b.recv(4) == b"eeee"


def test_of_a_level_triggered_one_the_next_poll_tells_what_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b = socketpair()
    with a, b, timeout(5):
        settled(a, b, 4)
        monkeypatch.setattr(Socket, "_recv_rest", None)  # nobody calls it
        receiver = spawn(b.recv, 4)
        wait_all_parked()
        a.sendall(b"aaaa" + b"bbbb")
        assert receiver.result() == b"aaaa"
        assert b.recv(4) == b"bbbb"


def test_a_level_triggered_one_gives_a_long_message_whole() -> None:
    a, b = socketpair()
    with a, b, timeout(5):
        settled(a, b, 4)
        for message in (b"short", b"long" * 250):
            receiver = spawn(b.recv, 16384)
            wait_all_parked()
            assert b._pollable.level
            a.sendall(message)
            assert receiver.result() == message


def test_what_a_read_says_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = socketpair()
    with a, b:
        wait = spawn(b.recv, 1)
        wait_all_parked()
        a.sendall(b"x")
        wait.join()
        seen = []
        for sent, asked in ((100, 100), (100, 200), (8192, 8192), (8192, 4096), (0, 4096)):
            a.sendall(bytes(sent))
            b.recv(asked)
            seen.append(b._pollable.readable)
        assert seen == [PERHAPS, NO, YES, YES, YES]


def test_nothing_starves_beside_a_socket_that_is_always_ready() -> None:
    a, b = socketpair()
    with a, b:
        a.sendall(bytes(10 * QUOTA))
        ran: list[int] = []
        other = spawn(lambda: ran.append(1))
        for _ in range(QUOTA + 2):
            b.recv(1)
        assert ran
        other.join()
        c, d = socketpair()
        with c, d:
            other = spawn(lambda: ran.append(2))
            for _ in range(QUOTA + 2):
                c.send(b"x")
            assert ran == [1, 2]
            other.join()


def test_a_read_that_stops_at_urgent_data_leaves_the_rest_readable() -> None:
    with listener() as sock, Socket() as client:
        client.connect(sock.getsockname())
        conn, _ = sock.accept()
        with conn:
            reading = spawn(conn.recv, 100)
            wait_all_parked()
            client.sendall(b"before")
            assert reading.result() == b"before"
            client.sendall(b"some")
            client.send(b"!", socket.MSG_OOB)
            client.sendall(b"more")
            got = b""
            while got != b"somemore":
                got += conn.recv(100)


# -- sending what fits ---------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 60, 0])
def test_what_fits_is_sent_and_nobody_else_runs_meanwhile(timeout: float | None) -> None:
    a, b = socketpair()
    with a, b:
        a.settimeout(timeout)
        a.set_write_deadline(0)  # time limits are for those who wait
        ran: list[int] = []
        other = spawn(ran.append, 1)
        for _ in range(2 * QUOTA):
            assert a.try_send(b"x") == 1
        sent = 2 * QUOTA
        while piece := a.try_send(bytearray(1_000_000)):
            sent += piece
        assert a.try_send(b"x") == 0
        assert not ran
        other.join()
        assert len(b.recv_exactly(sent)) == sent
        assert a.try_send(b"again") == 5  # though no edge told of the room
        assert b.recv(10) == b"again"


def test_tries_are_charged_so_that_who_serves_many_and_yields_now_and_then_starves_nobody() -> None:
    hub = this_hub()
    a, b = socketpair()
    with a, b:
        reader = spawn(a.recv, 10)  # from now on a is this hub's
        yield_now()
        before = hub.polls
        for _ in range(QUOTA + 1):
            a.try_send(b"x")
        assert hub.polls == before
        yield_now()
        assert hub.polls == before + 1
        b.send(b"end")
        assert reader.result() == b"end"


def test_who_waits_to_send_after_a_try_in_vain_is_woken() -> None:
    a, b = socketpair()
    with a, b:
        sent = 0
        while piece := a.try_send(bytes(1_000_000)):
            sent += piece
        waiting = spawn(a.send, b"last")
        wait_all_parked()
        assert not waiting.done
        assert b.recv_exactly(sent + 4)[sent:] == b"last"
        assert waiting.result() == 4


def test_a_try_to_send_fails_as_send_does() -> None:
    a, b = socketpair()
    with a:
        for nonsense in ("text", None, 5):
            with pytest.raises(TypeError) as info:
                a.try_send(nonsense)
            with pytest.raises(TypeError) as other:
                a.send(nonsense)
            assert str(info.value) == str(other.value)
        b.close()
        with pytest.raises(BrokenPipeError):
            a.try_send(b"x")
    with pytest.raises(OSError) as closed:
        a.try_send(b"x")
    assert closed.value.errno == errno.EBADF


# -- several tasks on one socket -----------------------------------------------------------------


def test_readers_are_served_in_turn() -> None:
    a, b = socketpair()
    with a, b:
        tasks = [spawn(b.recv, 1) for _ in range(5)]
        wait_all_parked()
        for i in range(5):
            a.sendall(str(i).encode())
            assert tasks[i].result() == str(i).encode()
            assert not any(task.done for task in tasks[i + 1 :])


def test_one_piece_for_several_readers() -> None:
    a, b = socketpair()
    with a, b:
        tasks = [spawn(b.recv, 2) for _ in range(4)]
        wait_all_parked()
        a.sendall(b"abcdefg")
        assert [task.result() for task in tasks] == [b"ab", b"cd", b"ef", b"g"]


def test_the_end_reaches_every_reader() -> None:
    a, b = socketpair()
    with b:
        tasks = [spawn(b.recv, 10) for _ in range(3)]
        wait_all_parked()
        a.sendall(b"last")
        a.close()
        assert [task.result() for task in tasks] == [b"last", b"", b""]


def test_a_reset_reaches_every_writer() -> None:
    a, b = socketpair()
    with b:
        tasks = [spawn(b.sendall, bytes(10_000_000)) for _ in range(3)]
        wait_all_parked()
        a.close()
        for task in tasks:
            assert isinstance(task.exception(), (BrokenPipeError, ConnectionResetError))


def test_a_reader_and_a_writer_at_once() -> None:
    a, b = socketpair()
    with a, b:
        size = 2_000_000
        tasks: list[Task[Any]] = []
        for sock in (a, b):
            tasks += [spawn(sock.sendall, bytes(size)), spawn(sock.recv_exactly, size)]
        for task in tasks:
            task.result()


def test_acceptors_are_served_in_turn() -> None:
    with listener() as sock:
        tasks = [spawn(sock.accept) for _ in range(4)]
        wait_all_parked()
        clients = [Socket() for _ in range(4)]
        for client in clients:
            client.connect(sock.getsockname())
        for task, client in zip(tasks, clients, strict=True):
            conn, address = task.result()
            assert address == client.getsockname()
            conn.close()
            client.close()


def test_a_storm_of_connections_is_accepted_without_asking_for_each() -> None:
    with listener() as sock:
        flags: list[object] = []

        def accept() -> None:
            for _ in range(10):
                sock.accept()[0].close()
                flags.append(sock._pollable.readable)

        task = spawn(accept)
        wait_all_parked()
        for burst in (4, 1, 1, 1, 3):
            clients = [socket.create_connection(sock.getsockname()) for _ in range(burst)]
            wait_all_parked()
            assert flags == [PERHAPS, YES, YES, YES][:burst]
            assert not sock._pollable.level
            flags.clear()
            for client in clients:
                client.close()
        task.join()


def test_a_storm_of_connections_starves_nobody() -> None:
    with listener() as sock:
        clients = [socket.create_connection(sock.getsockname()) for _ in range(QUOTA + 3)]
        ran: list[int] = []
        other = spawn(ran.append, 1)
        for client in clients:
            sock.accept()[0].close()
            client.close()
        assert ran
        other.join()


def test_a_cancel_takes_no_connection_with_it() -> None:
    with listener() as sock:
        clients = [socket.create_connection(sock.getsockname()) for _ in range(QUOTA + 9)]
        accepted = []
        with move_on_after() as scope:
            scope.cancel()
            while True:  # the quota's yield is where it is cancelled
                accepted.append(sock.accept())
        assert 0 < len(accepted) < len(clients)
        while len(accepted) < len(clients):
            accepted.append(sock.accept())
        assert [peer for _, peer in accepted] == [client.getsockname() for client in clients]
        for conn, _ in accepted:
            conn.close()
        for client in clients:
            client.close()


# -- connections that are not registered ---------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 60])
def test_a_short_connection_is_not_registered_while_others_run(
    monkeypatch: pytest.MonkeyPatch, timeout: float | None
) -> None:
    a, b = socketpair()
    with a, b:
        b.settimeout(timeout)
        a.sendall(b"request")
        made = Calls(monkeypatch).made
        assert b.recv(100) == b"request"
        spawn(a.close)  # while b waits for more
        assert b.recv(100) == b""
        assert made == ["_os_read" if timeout is None else "_recv"] * 2
        assert b._pollable.generation < 0


def test_a_long_connection_is_registered_also_while_others_run() -> None:
    a, b = socketpair()
    with a, b:
        registered = []
        a.sendall(b"request")
        assert b.recv(100) == b"request"
        for _ in range(5):
            spawn(a.sendall, b"request")  # while b waits for it
            assert b.recv(100) == b"request"
            registered.append(b._pollable.generation >= 0)
        assert registered == [False] * 3 + [True] * 2
        assert b._pollable.vain == 0


def test_alone_it_is_registered_without_a_try_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = socketpair()
    with a, b:
        a.sendall(b"request")
        assert b.recv(100) == b"request"
        made = Calls(monkeypatch).made
        reading = spawn(b.recv, 100)
        wait_all_parked()
        assert made == []
        assert b._pollable.generation >= 0
        a.sendall(b"more")
        assert reading.result() == b"more"


def test_what_came_before_it_was_registered_is_seen() -> None:
    a, b = socketpair()
    with a, b:
        a.sendall(b"request")
        assert b.recv(100) == b"request"
        a.sendall(b"more")
        assert b.recv(100) == b"more"
        spawn(lambda: None)
        waiting = spawn(b.recv, 100)  # lets the one before it run, and finds nothing even so
        spawn(lambda: None)
        wait_all_parked()
        a.sendall(b"last")
        assert waiting.result() == b"last"


def test_a_cancel_while_others_run_takes_no_bytes_with_it() -> None:
    a, b = socketpair()
    with a, b:
        a.sendall(b"request")
        assert b.recv(100) == b"request"
        with move_on_after() as scope:
            scope.cancel()
            sending = spawn(a.sendall, b"more")
            b.recv(100)
            pytest.fail("it was not cancelled")
        sending.join()
        assert b.recv(100) == b"more"


@contextmanager
def no_more_fds() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_full_fd_table_leaves_the_listener_usable() -> None:
    with listener() as sock, Socket() as client:
        waiting = spawn(sock.accept)
        wait_all_parked()
        with no_more_fds():
            client.connect(sock.getsockname())
            error = waiting.exception()
            assert isinstance(error, OSError)
            assert error.errno == errno.EMFILE
            with pytest.raises(OSError) as info:
                sock.accept()
            assert info.value.errno == errno.EMFILE
        conn, _ = sock.accept()
        conn.close()


# -- connect -------------------------------------------------------------------------------------


@virtual_clock()
def test_a_connect_that_gets_no_answer_times_out() -> None:
    with Socket() as sock:
        sock.bind(LOCAL)
        sock.listen(0)
        fillers = [Socket() for _ in range(3)]
        for filler in fillers:
            filler.settimeout(3)
            filler.connect_ex(sock.getsockname())
        with Socket() as client:
            client.settimeout(10)
            with pytest.raises(TimeoutError, match=f"timed out: connect on fd {client.fileno()}"):
                client.connect(sock.getsockname())
        with Socket() as client:
            client.settimeout(10)
            assert client.connect_ex(sock.getsockname()) == errno.EAGAIN
        for filler in fillers:
            filler.close()


@virtual_clock()
def test_a_deadline_reaches_a_connect_that_waits() -> None:
    with Socket() as sock:
        sock.bind(LOCAL)
        sock.listen(0)
        fillers = [Socket() for _ in range(3)]
        for filler in fillers:
            filler.settimeout(3)
            filler.connect_ex(sock.getsockname())
        with Socket() as client:
            connecting = spawn(client.connect, sock.getsockname())
            wait_all_parked()
            client.set_read_deadline(0)
            wait_all_parked()
            assert not connecting.done
            client.set_deadline(0)
            assert isinstance(connecting.exception(), TimeoutError)
        for filler in fillers:
            filler.close()


@virtual_clock()
def test_a_unix_listener_whose_backlog_is_full_times_out() -> None:
    name = f"\0greenpump-{os.getpid()}-backlog"
    with Socket(socket.AF_UNIX) as sock, Socket(socket.AF_UNIX) as first:
        sock.bind(name)
        sock.listen(0)
        first.connect(name)
        with Socket(socket.AF_UNIX) as client:
            client.settimeout(7)
            start = this_hub().timers.clock()
            with pytest.raises(TimeoutError, match="timed out: connect"):
                client.connect(name)
            assert 7 <= (this_hub().timers.clock() - start) / 1e9 < 7.1


def test_data_and_the_end_that_come_with_the_connection_are_both_seen() -> None:
    with listener() as sock, Socket() as client:
        with pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", 1))

        def serve() -> None:
            conn, _ = sock.accept()
            with conn:
                conn.sendall(b"all at once")

        task = spawn(serve)
        client.connect(sock.getsockname())
        task.join()
        assert client.recv(100) == b"all at once"
        assert client.recv(100) == b""


# -- from outside --------------------------------------------------------------------------------


def test_a_plain_socket_is_adopted(hub: Hub) -> None:
    a, b = socket.socketpair()
    a.settimeout(5)
    number = a.fileno()
    with Socket.from_stdlib(a) as ours, b:
        assert a.fileno() == -1
        assert (ours.fileno(), ours.gettimeout()) == (number, 5)
        assert (ours.family, ours.type) == (b.family, b.type)
        task = spawn(ours.recv, 10)
        wait_all_parked()
        b.sendall(b"x")
        assert task.result() == b"x"
    assert registrations(hub) == []


def test_what_is_not_adopted() -> None:
    with pytest.raises(TypeError, match="plain socket"):
        Socket.from_stdlib(5)  # type: ignore[arg-type]
    a, b = socket.socketpair()
    context = ssl.create_default_context()
    context.check_hostname = False
    tls = context.wrap_socket(a, do_handshake_on_connect=False)
    with tls, b, pytest.raises(TypeError, match="plain socket"):
        Socket.from_stdlib(tls)
    with pytest.raises((OSError, ValueError)):
        Socket.from_stdlib(b)


def test_http_client_over_a_makefile() -> None:
    a, b = socketpair()

    def serve() -> None:
        with b, b.makefile("rwb") as file:
            while file.readline() != b"\r\n":
                pass
            file.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    task = spawn(serve)
    conn = http.client.HTTPConnection("unix")
    conn.sock = a
    conn.request("GET", "/")
    response = conn.getresponse()
    assert (response.status, response.read()) == (200, b"hello")
    conn.close()
    task.result()


def test_a_thousand_connections_leave_nothing(hub: Hub) -> None:
    with listener() as sock:
        before = registrations(hub)

        def serve() -> None:
            for _ in range(1000):
                spawn(handle, sock.accept()[0])

        def handle(conn: Socket) -> None:
            with conn:
                conn.settimeout(30)
                while data := conn.recv(100):
                    conn.sendall(data)

        task = spawn(serve)
        for _ in range(20):
            clients = [Socket() for _ in range(50)]
            for client in clients:
                client.connect(sock.getsockname())
                client.sendall(b"x")
            for client in clients:
                assert client.recv(10) == b"x"
                client.close()
        task.join()
        wait_all_parked()
        assert hub.live_tasks() == []
        assert set(registrations(hub)) <= {*before, sock.fileno()}


def test_a_thread_without_tasks_may_use_it() -> None:
    a, b = socketpair()
    seen: list[bytes] = []

    def work() -> None:
        a.sendall(b"from a thread")
        seen.append(a.recv(100))
        a.close()
        this_hub().close()

    thread = threading.Thread(target=work)
    thread.start()
    assert b.recv_exactly(13) == b"from a thread"
    b.sendall(b"back")
    while thread.is_alive():
        yield_now()
    thread.join()
    b.close()
    assert seen == [b"back"]
