"""serve: what a connection gets, what accepting outlives, how it stops, hubs."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import greenpump as gp
from greenpump.errors import Cancelled
from greenpump.hub.hub import Hub
from greenpump.hub.local import this_hub
from greenpump.hub.spawning import current, sleep, spawn, yield_now
from greenpump.hub.task import Task
from greenpump.net.connect import connect
from greenpump.net.listen import listen, raise_nofile_limit, socketpair
from greenpump.net.serve import serve
from greenpump.net.socket import Socket
from greenpump.testing import virtual_clock, wait_all_parked

module: Any = import_module("greenpump.net.serve")
Handler = Callable[[Socket, Any], object]


class Running:
    """A server in a task of its own."""

    def __init__(self, handler: Handler, listener: socket.socket, **keywords: Any) -> None:
        self.listener = listener
        self.address: Any = listener.getsockname()
        self.task: Task[None] = spawn(serve, handler, listener, **keywords)

    def connect(self) -> Socket:
        return connect(self.address)

    def stop(self) -> None:
        self.task.cancel()
        self.task.join()


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def begin(handler: Handler, **keywords: Any) -> Running:
        listener = keywords.pop("listener", None) or listen(("127.0.0.1", 0))
        running.append(Running(handler, listener, **keywords))
        return running[-1]

    yield begin
    for server in running:
        server.stop()
        assert server.listener.fileno() == -1


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, BaseException]]:
    """What the excepthook got."""
    seen: list[tuple[str, BaseException]] = []
    monkeypatch.setattr(gp, "excepthook", lambda task, error: seen.append((task.name, error)))
    return seen


def echo(conn: Socket, peer: Any) -> None:
    while data := conn.recv(4096):
        conn.sendall(data)


def ask(conn: Socket, data: bytes = b"hello") -> bytes:
    conn.sendall(data)
    return conn.recv(4096)


# -- a connection ----------------------------------------------------------------------------------


def test_the_handler_gets_the_connection_and_its_peer(start: Callable[..., Running]) -> None:
    seen = []

    def handler(conn: Socket, peer: Any) -> None:
        seen.append((conn.getpeername(), peer, conn.nodelay, current().name))
        echo(conn, peer)

    with start(handler).connect() as client:
        assert ask(client) == b"hello"
        me = client.getsockname()
        [(peername, peer, nodelay, name)] = seen
        assert peername == peer == me
        assert nodelay
        assert name.endswith(f"handler {me[0]}:{me[1]}")


def test_connections_are_served_side_by_side(start: Callable[..., Running]) -> None:
    server = start(echo)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(20)]
        for number, client in enumerate(clients):
            assert ask(client, b"%d" % number) == b"%d" % number


def test_the_connection_is_closed_when_the_handler_ends(start: Callable[..., Running]) -> None:
    conns = []
    with start(lambda conn, peer: conns.append(conn)).connect() as client:
        assert client.recv(1) == b""
    assert conns[0].fileno() == -1


def test_a_handler_that_raises_is_reported_and_harms_nobody(
    start: Callable[..., Running], reported: list[tuple[str, BaseException]]
) -> None:
    def handler(conn: Socket, peer: Any) -> None:
        if conn.recv(9) == b"fail":
            raise ZeroDivisionError("by the handler")
        conn.sendall(b"well")

    server = start(handler)
    with server.connect() as good, server.connect() as bad:
        assert ask(bad, b"fail") == b""
        assert ask(good, b"go on") == b"well"
        [(name, error)] = reported
        assert isinstance(error, ZeroDivisionError)
        assert name.endswith(f"handler 127.0.0.1:{bad.getsockname()[1]}")


def test_a_connection_the_handler_closed_or_gave_away_is_fine(
    start: Callable[..., Running], reported: list[tuple[str, BaseException]]
) -> None:
    given: list[int] = []

    def handler(conn: Socket, peer: Any) -> None:
        if conn.recv(9) == b"close":
            conn.close()
        else:
            given.append(conn.detach())

    server = start(handler)
    with server.connect() as one, server.connect() as other:
        assert ask(one, b"close") == b""
        other.sendall(b"give")
        wait_all_parked()
        with socket.socket(fileno=given[0]) as adopted:
            adopted.sendall(b"still open")
            assert other.recv(99) == b"still open"
    assert reported == []


def test_a_detached_connection_stays_open_and_counts_no_more(
    start: Callable[..., Running],
) -> None:
    def answer(conn: Socket) -> None:
        with conn:
            conn.sendall(b"late " + conn.recv(99))

    server = start(lambda conn, peer: conn.detach_until_readable(answer), limit=1, grace=0)
    with server.connect() as one, server.connect() as other:
        wait_all_parked()
        assert ask(other, b"other") == b"late other"
        server.stop()
        assert ask(one, b"one") == b"late one"


def test_a_detached_connection_with_data_already_there_stays_open(
    start: Callable[..., Running],
) -> None:
    def answer(conn: Socket) -> None:
        with conn:
            conn.sendall(b"got " + conn.recv(99))

    def handler(conn: Socket, peer: Any) -> None:
        conn.recv(1)
        conn.detach_until_readable(answer)
        yield_now()  # answer may begin and end before the handler does

    with start(handler).connect() as client:
        assert ask(client, b"xrest") == b"got rest"


# -- where it listens ------------------------------------------------------------------------------


def test_it_listens_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Socket] = []

    def spy(*args: Any, **keywords: Any) -> Socket:
        made.append(listen(*args, **keywords))
        return made[-1]

    monkeypatch.setattr(module, "listen", spy)
    task = spawn(serve, echo, ("127.0.0.1", 0))
    wait_all_parked()
    assert not made[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    with connect(made[0].getsockname()) as client:
        assert ask(client) == b"hello"
    task.cancel()
    task.join()
    assert made[0].fileno() == -1


def test_a_unix_path_goes_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    task = spawn(serve, echo, path)
    wait_all_parked()
    with connect(path) as client:
        assert ask(client) == b"hello"
    task.cancel()
    task.join()
    assert not path.exists()


def test_a_path_that_another_server_took_over_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    task = spawn(serve, echo, str(path))
    wait_all_parked()
    path.rename(tmp_path / "old.sock")
    with listen(path):
        task.cancel()
        task.join()
        connect(path).close()


def test_it_adopts_a_stdlib_listener(start: Callable[..., Running]) -> None:
    with start(echo, listener=socket.create_server(("127.0.0.1", 0))).connect() as client:
        assert ask(client) == b"hello"


@pytest.mark.parametrize(
    ("keywords", "kind", "text"),
    [
        ({"limit": 0}, ValueError, "limit must be at least 1"),
        ({"grace": -1}, ValueError, "must not be negative"),
        ({"hubs": 0}, ValueError, "hubs must be at least 1"),
        ({"processes": -2}, ValueError, "processes must be at least 1"),
        ({"hubs": "many"}, TypeError, 'hubs must be a number or "auto"'),
    ],
)
def test_bad_arguments_are_refused(
    keywords: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        serve(echo, ("127.0.0.1", 0), **keywords)


def test_what_is_no_handler_or_no_listener_is_refused() -> None:
    with pytest.raises(TypeError, match="serve needs handler"):
        serve(None, ("127.0.0.1", 0))  # type: ignore[arg-type]
    with Socket() as sock, pytest.raises(ValueError, match="a socket that listens"):
        serve(echo, sock)


# -- what accepting outlives -----------------------------------------------------------------------


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Errnos that accept fails with before it works again."""
    pending: list[int] = []
    original = Socket.accept

    def accept(sock: Socket) -> tuple[Socket, Any]:
        if pending:
            code = pending.pop(0)
            raise OSError(code, os.strerror(code))
        return original(sock)

    monkeypatch.setattr(Socket, "accept", accept)
    return pending


@pytest.mark.parametrize(
    "code", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETUNREACH, errno.ETIMEDOUT]
)
def test_an_error_of_one_connection_is_passed_over(
    code: int, refusals: list[int], start: Callable[..., Running]
) -> None:
    refusals.extend([code] * 3)
    with start(echo).connect() as client:
        assert ask(client) == b"hello"
    assert refusals == []


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_exhaustion_is_waited_out_longer_and_longer(
    code: int,
    refusals: list[int],
    start: Callable[..., Running],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with virtual_clock() as clock:
        begun = clock.now()
        refusals.extend([code] * 6)
        server = start(echo)
        with server.connect() as client:
            assert ask(client) == b"hello"
            # 0.1 + 0.2 + 0.4 + 0.8 + 1 + 1
            assert clock.now() - begun == pytest.approx(3.5)
            [record] = caplog.records
            assert record.name == "greenpump.serve"
            assert record.levelno == logging.WARNING
            assert os.strerror(code) in record.getMessage()
            assert "accepting on 127.0.0.1:" in record.getMessage()
        server.stop()


def test_a_new_episode_is_logged_again(
    refusals: list[int], start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    with virtual_clock():
        server = start(echo)
        for pause, records in ((0, 1), (5, 1), (11, 2)):
            sleep(pause)
            refusals.extend([errno.EMFILE] * 2)
            for _ in range(2):  # the first is accepted by the accept that was already waiting
                with server.connect() as client:
                    assert ask(client) == b"hello"
            assert len(caplog.records) == records
        server.stop()


def test_a_connection_that_ends_ends_the_pause(
    refusals: list[int], start: Callable[..., Running]
) -> None:
    with virtual_clock() as clock:
        server = start(echo)
        with server.connect() as first:
            assert ask(first) == b"hello"
            begun = clock.now()
            refusals.append(errno.EMFILE)
            second, third = server.connect(), server.connect()
            with second, third:
                yield_now()
                yield_now()
                first.close()
                assert ask(second) == ask(third) == b"hello"
                assert clock.now() == begun
        server.stop()


def test_a_full_fd_table_for_real(
    start: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    server = start(echo)
    with server.connect() as first:
        assert ask(first) == b"hello"
        with server.connect() as warm:
            assert ask(warm) == b"hello"
        client = socket.socket()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
        try:
            client.connect(server.address)
            client.sendall(b"patience")
            while not caplog.records:
                yield_now()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert "Too many open files" in caplog.records[0].getMessage()
        with Socket.from_stdlib(client) as conn:
            assert conn.recv(99) == b"patience"


def test_an_unknown_error_ends_the_server(refusals: list[int]) -> None:
    refusals.append(errno.EIO)
    listener = listen(("127.0.0.1", 0))
    with pytest.raises(OSError) as caught:
        serve(echo, listener)
    assert caught.value.errno == errno.EIO
    assert listener.fileno() == -1


def test_a_peer_that_resets_harms_nobody(
    start: Callable[..., Running], reported: list[tuple[str, BaseException]]
) -> None:
    server = start(echo)
    rude = server.connect()
    with server.connect() as polite:
        assert ask(rude) == b"hello"
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        rude.close()
        assert ask(polite) == b"hello"
    assert [type(error) for _, error in reported] == [ConnectionResetError]


# -- limit -----------------------------------------------------------------------------------------


def test_no_more_than_the_limit_are_open(start: Callable[..., Running]) -> None:
    open_now, most = 0, 0

    def handler(conn: Socket, peer: Any) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        echo(conn, peer)
        open_now -= 1

    server = start(handler, limit=3)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(10)]
        wait_all_parked()
        assert most == 3
        assert server.task.state() == "serve: waits for one of 3 connections (limit) to end"
        for client in clients:
            assert ask(client) == b"hello"  # those beyond the limit: once their turn has come
            client.close()
    assert most == 3


# -- the end ---------------------------------------------------------------------------------------


def test_handlers_have_the_grace_to_end(start: Callable[..., Running]) -> None:
    ended = []

    def handler(conn: Socket, peer: Any) -> None:
        seconds = float(conn.recv(9))
        try:
            sleep(seconds)
            ended.append(seconds)
        except Cancelled:
            ended.append(-seconds)
            raise

    with virtual_clock() as clock:
        server = start(handler, grace=5)
        with server.connect() as quick, server.connect() as slow:
            quick.sendall(b"3")
            slow.sendall(b"30")
            wait_all_parked()
            begun = clock.now()
            server.stop()
            assert clock.now() == pytest.approx(begun + 5)
            assert ended == [3, -30]
            assert server.task.cancelled
            assert (quick.recv(1), slow.recv(1)) == (b"", b"")


def test_it_ends_as_soon_as_the_handlers_have(start: Callable[..., Running]) -> None:
    with virtual_clock() as clock:
        server = start(echo, grace=5)
        with server.connect() as client:
            assert ask(client) == b"hello"
        begun = clock.now()
        server.stop()
        assert clock.now() == begun


def test_while_it_stops_nobody_is_accepted(start: Callable[..., Running]) -> None:
    with virtual_clock():
        server = start(echo, grace=5)
        with server.connect() as client:
            assert ask(client) == b"hello"
            server.task.cancel()
            wait_all_parked()
            assert server.task.state() == "serve: waits for 1 handlers to end"
            with pytest.raises(ConnectionRefusedError):
                server.connect()
            assert ask(client) == b"hello"  # who is there is still served
        server.task.join()


def test_a_connection_whose_handler_was_cancelled_before_it_ran_is_closed() -> None:
    ran: list[Socket] = []
    listener = listen(("127.0.0.1", 0))
    server = module.Server(lambda conn, peer: ran.append(conn), listener, None, 0)
    conn, client = socketpair()
    with client:
        task = spawn(server._handle, conn, None)
        server._live[conn] = task
        task.cancel()  # as at the end of run
        server.end()
        assert client.recv(1) == b""
    assert ran == []


def test_closing_the_listener_ends_it(start: Callable[..., Running]) -> None:
    server = start(echo)
    with server.connect() as client:
        assert ask(client) == b"hello"
        server.listener.close()
    server.task.result(10)


def test_ctrl_c_in_the_main_task_stops_it_in_order() -> None:
    ended = []
    listener = listen(("127.0.0.1", 0))
    address = listener.getsockname()

    def handler(conn: Socket, peer: Any) -> None:
        conn.sendall(b"begun")
        try:
            conn.recv(1)
        finally:
            ended.append(peer)

    def client() -> None:
        with connect(address) as conn:
            assert conn.recv(9) == b"begun"
            hub = this_hub()
            hub.to_main(KeyboardInterrupt())
            yield_now()
            yield_now()
            assert listener.fileno() == -1
            assert ended == []

    task = spawn(client)
    with pytest.raises(KeyboardInterrupt):
        serve(handler, listener)
    assert len(ended) == 1
    task.result(10)


# -- hubs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reuse_port", [True, False])
def test_several_hubs_serve_one_address(reuse_port: bool) -> None:
    served: Counter[Hub] = Counter()

    def handler(conn: Socket, peer: Any) -> None:
        served[this_hub()] += 1
        echo(conn, peer)

    def main() -> None:
        listener = listen(("127.0.0.1", 0), reuse_port=reuse_port)
        address = listener.getsockname()
        task = spawn(serve, handler, listener, hubs=2)
        for _ in range(100):
            with connect(address) as client:
                assert ask(client) == b"hello"
            if len(served) == 2:
                break
        task.cancel()
        task.join()
        assert listener.fileno() == -1
        with pytest.raises(ConnectionRefusedError):
            connect(address)

    gp.run(main, hubs=2)
    # With one listener for both, the quicker hub may get them all.
    assert len(served) == 2 if reuse_port else served


def test_hubs_share_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module._shares(5, 2) == [3, 2]
    assert module._shares(None, 2) == [None, None]
    with listen(("127.0.0.1", 0), reuse_port=True) as listener:
        for made, wanted in (
            (module._multiply(listener, 4, 2), 2),
            (module._multiply(listener, 3, None), 3),
        ):
            assert len(made) == wanted
            assert {each.getsockname() for each in made} == {listener.getsockname()}
            for each in made[1:]:
                each.close()


def test_another_listener_has_the_same_options() -> None:
    keywords = {"nodelay": False, "ipv6_only": True, "fastopen": 8, "defer_accept": 1}
    options = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY),
        (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY),
        (socket.IPPROTO_TCP, socket.TCP_FASTOPEN),
        (socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT),
        (socket.SOL_SOCKET, socket.SO_REUSEPORT),
    ]
    with listen(("", 0), reuse_port=True, **keywords) as one, module._another(one) as other:  # type: ignore[arg-type]
        for option in options:
            assert other.getsockopt(*option) == one.getsockopt(*option), option


def test_more_hubs_than_run_has_is_an_error() -> None:
    def main() -> None:
        with pytest.raises(RuntimeError, match=r"needs run\(main, hubs=3\); this run has 2"):
            serve(echo, ("127.0.0.1", 0), hubs=3)

    gp.run(main, hubs=2)


def test_outside_run_it_brings_its_own_hubs() -> None:
    listener = listen(("127.0.0.1", 0), reuse_port=True)
    address = listener.getsockname()

    def client() -> None:
        with connect(address) as conn:
            assert ask(conn) == b"hello"
        assert len(gp.hubs()) == 2
        this_hub().to_main(KeyboardInterrupt())

    spawn(client)
    with pytest.raises(KeyboardInterrupt):
        serve(echo, listener, hubs=2)


def test_a_hub_whose_listener_fails_ends_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Socket.accept

    def main() -> None:
        here = this_hub()

        def accept(sock: Socket) -> tuple[Socket, Any]:
            if this_hub() is not here:
                raise OSError(errno.EIO, "broken")
            return original(sock)

        monkeypatch.setattr(Socket, "accept", accept)
        with pytest.raises(OSError) as caught:
            serve(echo, ("127.0.0.1", 0), hubs=2)
        assert caught.value.errno == errno.EIO

    gp.run(main, hubs=2)


@pytest.mark.parametrize("free_threaded", [True, False])
def test_auto_means_the_cpus_for_what_uses_them(free_threaded: bool) -> None:
    cpus = len(os.sched_getaffinity(0))
    assert module._count("hubs", "auto", auto=free_threaded) == (cpus if free_threaded else 1)


# -- many ------------------------------------------------------------------------------------------


def test_two_thousand_connections_at_once(
    start: Callable[..., Running], reported: list[tuple[str, BaseException]]
) -> None:
    if raise_nofile_limit() < 5000:
        pytest.skip("needs 5,000 fds")
    server = start(echo)
    answers: Counter[bytes] = Counter()
    gate = Counter[str]()

    def client(number: int) -> None:
        with server.connect() as conn:
            gate["open"] += 1
            while gate["open"] < 2000:
                sleep(0.01)
            for _ in range(2):
                answers[ask(conn, b"%d" % number)] += 1

    tasks = [spawn(client, number) for number in range(2000)]
    for task in tasks:
        task.result(50)
    assert answers == {b"%d" % number: 2 for number in range(2000)}
    assert reported == []
