"""connect: every form of address, the race between addresses, errors that tell, no socket left."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from greenpump.hub.hub import Hub
from greenpump.hub.local import this_hub
from greenpump.hub.scope import move_on_after
from greenpump.hub.spawning import sleep, spawn, yield_now
from greenpump.net import dns
from greenpump.net.connect import connect
from greenpump.net.socket import Socket
from greenpump.offload import retire_idle
from greenpump.testing import VirtualClock, virtual_clock, wait_all_parked

module: Any = import_module("greenpump.net.connect")

SIX = [f"2001:db8::{n}" for n in range(1, 4)]
FOUR = [f"192.0.2.{n}" for n in range(1, 4)]


@pytest.fixture(autouse=True)
def no_pool_threads() -> Iterator[None]:
    yield
    dns.flush_cache()
    retire_idle()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let some.example have these addresses."""

    def have(*hosts: str) -> None:
        def answer(host: str, port: Any, family: int, *rest: int) -> list[Any]:
            found: list[Any] = []
            for each in hosts:
                six = ":" in each
                if family in (0, socket.AF_INET6 if six else socket.AF_INET):
                    sockaddr = (each, 0, 0, 0) if six else (each, 0)
                    kind = socket.AF_INET6 if six else socket.AF_INET
                    found.append((kind, socket.SOCK_STREAM, 6, "", sockaddr))
            return found

        monkeypatch.setattr(dns, "_getaddrinfo", answer)

    return have


# -- forms of address ------------------------------------------------------------------------------


def test_over_ip(listener: socket.socket) -> None:
    with connect(listener.getsockname()) as conn:
        assert type(conn) is Socket
        assert conn.getpeername() == listener.getsockname()
        peer, address = listener.accept()
        with peer:
            assert address == conn.getsockname()
            conn.sendall(b"x")
            assert peer.recv(1) == b"x"


def test_over_ipv6_with_all_four_parts() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        address = listener.getsockname()
        assert len(address) == 4
        with connect(address) as conn:
            assert conn.getpeername() == address


def test_by_name(listener: socket.socket) -> None:
    with connect(("localhost", listener.getsockname()[1])) as conn:
        assert conn.getpeername() == listener.getsockname()


@pytest.mark.parametrize("form", [str, os.fsencode, Path])
def test_over_a_unix_path(form: Callable[[str], Any], tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with connect(form(path)) as conn:
            assert conn.family == socket.AF_UNIX
            assert conn.getpeername() == path


def test_over_an_abstract_name() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0greenpump-test-connect")
        listener.listen()
        with connect("\0greenpump-test-connect") as conn:
            assert conn.getpeername() == b"\0greenpump-test-connect"


@pytest.mark.parametrize("addr", [None, 5, ("host",), ["127.0.0.1", 80], ("a", 1, 2)])
def test_what_is_no_address_is_refused(addr: Any) -> None:
    with pytest.raises(TypeError, match="connect needs"):
        connect(addr)


def test_host_and_port_in_one_string_are_refused() -> None:
    with pytest.raises(ValueError, match=r"for TCP say \('localhost', 80\)"):
        connect("localhost:80")


def test_nodelay_is_on_unless_refused(listener: socket.socket) -> None:
    with connect(listener.getsockname()) as conn:
        assert conn.nodelay
    with connect(listener.getsockname(), nodelay=False) as conn:
        assert not conn.nodelay


def test_the_connection_blocks_without_limit(listener: socket.socket) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(3)
    try:
        with connect(listener.getsockname(), timeout=5) as conn:
            assert conn.gettimeout() is None
    finally:
        socket.setdefaulttimeout(before)


# -- source ----------------------------------------------------------------------------------------


def test_it_comes_from_the_source(listener: socket.socket) -> None:
    with connect(listener.getsockname(), source=("127.0.0.2", 0)) as conn:
        assert conn.getsockname()[0] == "127.0.0.2"
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.2", 0))
        port = reserved.getsockname()[1]
    with connect(listener.getsockname(), source=("127.0.0.2", port)) as conn:
        assert conn.getsockname() == ("127.0.0.2", port)


def test_a_unix_socket_comes_from_its_source() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0greenpump-test-to")
        listener.listen()
        with connect("\0greenpump-test-to", source="\0greenpump-test-from") as conn:
            assert conn.getsockname() == b"\0greenpump-test-from"


def test_a_source_that_is_not_ours_is_named(listener: socket.socket) -> None:
    with pytest.raises(OSError) as caught:
        connect(listener.getsockname(), source=("192.0.2.1", 0))
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert "from 192.0.2.1:0" in str(caught.value)


def test_a_source_of_the_other_family_is_an_error(listener: socket.socket) -> None:
    with pytest.raises(OSError, match="no address of the source's family") as caught:
        connect(listener.getsockname(), source=("::1", 0))
    assert caught.value.errno == errno.EAFNOSUPPORT


def test_the_source_chooses_among_the_families(
    listener: socket.socket, names: Callable[..., None]
) -> None:
    names("::1", "127.0.0.1")
    port = listener.getsockname()[1]
    with connect(("some.example", port), source=("127.0.0.3", 0)) as conn:
        assert conn.getsockname()[0] == "127.0.0.3"


# -- errors ----------------------------------------------------------------------------------------


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_one_address_refused_raises_its_own_error() -> None:
    port = closed_port()
    with pytest.raises(ConnectionRefusedError, match=f"connecting to 127.0.0.1:{port}") as caught:
        connect(("127.0.0.1", port))
    assert caught.value.errno == errno.ECONNREFUSED


def test_no_such_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"connecting to unix:/.*none\.sock"):
        connect(tmp_path / "none.sock")


def test_all_addresses_refused_lists_them(names: Callable[..., None]) -> None:
    names("::1", "127.0.0.1")
    port = closed_port()
    with pytest.raises(ConnectionRefusedError) as caught:
        connect(("some.example", port))
    text = str(caught.value)
    assert f"no address of some.example:{port} could be connected" in text
    assert f"[::1]:{port}: Connection refused" in text
    assert f"127.0.0.1:{port}: Connection refused" in text


def test_no_such_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*args: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(dns, "_getaddrinfo", answer)
    with pytest.raises(socket.gaierror, match=r"no such name: 'none.example'"):
        connect(("none.example", 80))


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_an_impossible_timeout_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="a time in seconds"):
        connect(("127.0.0.1", 80), timeout)


def test_a_connection_to_itself_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simultaneous open: the kernel happens to choose the destination as our own port."""
    port = closed_port()
    original = Socket.connect

    def from_there(sock: Socket, address: Any) -> None:
        sock.bind(("127.0.0.1", port))
        original(sock, address)
        assert sock.getpeername() == sock.getsockname()

    monkeypatch.setattr(Socket, "connect", from_there)
    with pytest.raises(ConnectionRefusedError):
        connect(("127.0.0.1", port))


# -- one attempt and the deadline ------------------------------------------------------------------


@pytest.fixture
def full(tmp_path: Path) -> Iterator[str]:
    """A unix listener whose backlog is full: who connects waits."""
    path = str(tmp_path / "full.sock")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        yield path


def test_the_deadline_names_the_address(full: str) -> None:
    with virtual_clock() as clock:
        start = clock.now()
        with pytest.raises(TimeoutError, match=r"no connection to unix:.*full.sock within 3 s"):
            connect(full, timeout=3)
        assert clock.now() == pytest.approx(start + 3)


def test_a_scope_around_it_is_not_mistaken_for_its_own_timeout(full: str) -> None:
    with virtual_clock():
        with move_on_after(1) as scope:
            connect(full, timeout=3)
        assert scope.expired


def test_a_cancelled_connect_leaves_nothing(full: str) -> None:
    task = spawn(connect, full)
    wait_all_parked()
    task.cancel()
    task.join()
    assert task.cancelled


def test_the_look_up_counts(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    import threading

    gate = threading.Event()

    def answer(*args: Any) -> list[Any]:
        gate.wait()
        return []

    monkeypatch.setattr(dns, "_getaddrinfo", answer)
    with pytest.raises(TimeoutError, match=r"no connection to slow.example:80 within 0.001 s"):
        connect(("slow.example", 80), timeout=0.001)
    gate.set()
    while dns._pool._running:
        os.sched_yield()


# -- the race --------------------------------------------------------------------------------------


class Track:
    """Attempts that do what they are told, and what became of them, in virtual time."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.start = clock.now()
        self.outcomes: dict[str, tuple[float, str]] = {}
        self.begun: list[tuple[float, str]] = []
        self.sockets: dict[str, socket.socket] = {}
        self.cancelled: list[str] = []

    def now(self) -> float:
        return round(self.clock.now() - self.start, 3)

    def attempt(self, family: int, proto: int, sockaddr: Any, origin: Any, nodelay: bool) -> Socket:
        host = sockaddr[0]
        self.begun.append((self.now(), host))
        seconds, outcome = self.outcomes[host]
        sock = Socket(family, socket.SOCK_STREAM)
        self.sockets[host] = sock
        try:
            if seconds:
                sleep(seconds)
            if outcome != "connects":
                raise OSError(getattr(errno, outcome), os.strerror(getattr(errno, outcome)))
        except BaseException as error:
            sock.close()
            if not isinstance(error, Exception):
                self.cancelled.append(host)
            raise
        return sock

    def open(self) -> list[str]:
        return [host for host, sock in self.sockets.items() if sock.fileno() >= 0]


@pytest.fixture
def track(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> Iterator[Track]:
    with virtual_clock() as clock:
        track = Track(clock)
        monkeypatch.setattr(module, "_attempt", track.attempt)
        yield track


NEVER = 1e6


def test_families_take_turns_every_quarter_of_a_second(
    track: Track, names: Callable[..., None]
) -> None:
    names(*SIX, FOUR[0])
    track.outcomes = dict.fromkeys([*SIX, FOUR[0]], (NEVER, "connects"))
    with pytest.raises(TimeoutError, match="within 2 s"):
        connect(("some.example", 80), timeout=2)
    assert track.begun == [(0, SIX[0]), (0.25, FOUR[0]), (0.5, SIX[1]), (0.75, SIX[2])]
    assert track.now() == 2
    assert track.open() == []


def test_the_resolvers_favourite_family_begins(track: Track, names: Callable[..., None]) -> None:
    names(FOUR[0], FOUR[1], SIX[0])
    track.outcomes = dict.fromkeys([*FOUR, *SIX], (0, "ECONNREFUSED"))
    with pytest.raises(ConnectionRefusedError):
        connect(("some.example", 80))
    assert [host for _, host in track.begun] == [FOUR[0], SIX[0], FOUR[1]]


def test_the_second_wins_when_the_first_is_silent(track: Track, names: Callable[..., None]) -> None:
    names(SIX[0], FOUR[0])
    track.outcomes = {SIX[0]: (NEVER, "connects"), FOUR[0]: (0.03, "connects")}
    with connect(("some.example", 80)) as conn:
        assert conn is track.sockets[FOUR[0]]
        assert track.now() == 0.28
        assert track.open() == [FOUR[0]]
        assert track.cancelled == [SIX[0]]


def test_the_first_may_win_late(track: Track, names: Callable[..., None]) -> None:
    names(SIX[0], FOUR[0])
    track.outcomes = {SIX[0]: (0.4, "connects"), FOUR[0]: (NEVER, "connects")}
    with connect(("some.example", 80)) as conn:
        assert conn is track.sockets[SIX[0]]
        assert track.now() == 0.4
        assert track.open() == [SIX[0]]


def test_one_that_is_quick_has_no_rivals(track: Track, names: Callable[..., None]) -> None:
    names(SIX[0], FOUR[0])
    track.outcomes = {SIX[0]: (0.1, "connects")}
    connect(("some.example", 80)).close()
    assert track.begun == [(0, SIX[0])]


def test_a_failure_lets_the_next_begin_at_once(track: Track, names: Callable[..., None]) -> None:
    names(SIX[0], FOUR[0])
    track.outcomes = {SIX[0]: (0.1, "ENETUNREACH"), FOUR[0]: (0, "connects")}
    connect(("some.example", 80)).close()
    assert track.begun == [(0, SIX[0]), (0.1, FOUR[0])]


def test_all_failed_says_how_each(track: Track, names: Callable[..., None]) -> None:
    names(SIX[0], FOUR[0])
    track.outcomes = {SIX[0]: (0, "ENETUNREACH"), FOUR[0]: (0, "ECONNREFUSED")}
    with pytest.raises(ConnectionRefusedError) as caught:
        connect(("some.example", 80))
    assert "[2001:db8::1]:80: Network is unreachable; 192.0.2.1:80: Connection refused" in str(
        caught.value
    )


def test_a_timeout_says_what_failed_so_far(track: Track, names: Callable[..., None]) -> None:
    names(SIX[0], FOUR[0])
    track.outcomes = {SIX[0]: (0, "ENETUNREACH"), FOUR[0]: (NEVER, "connects")}
    with pytest.raises(TimeoutError, match=r"within 1 s: \[2001:db8::1\]:80: Network is unreach"):
        connect(("some.example", 80), timeout=1)


def test_two_that_connect_together_leave_one(track: Track, names: Callable[..., None]) -> None:
    names(SIX[0], FOUR[0])
    track.outcomes = {SIX[0]: (0.5, "connects"), FOUR[0]: (0.25, "connects")}
    with connect(("some.example", 80)) as conn:
        assert len(track.open()) == 1
        assert track.sockets[track.open()[0]] is conn


def test_a_cancel_in_the_race_closes_all(track: Track, names: Callable[..., None]) -> None:
    names(SIX[0], FOUR[0])
    track.outcomes = dict.fromkeys([SIX[0], FOUR[0]], (NEVER, "connects"))
    task = spawn(connect, ("some.example", 80))
    sleep(0.3)
    assert len(track.open()) == 2
    assert task.state() == "connect to some.example:80"
    task.cancel()
    task.join()
    assert track.open() == []


def test_an_unexpected_error_ends_the_race(
    track: Track, names: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    names(SIX[0], FOUR[0])

    def fail(*args: Any) -> Socket:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(module, "_attempt", fail)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        connect(("some.example", 80))
    yield_now()
    assert this_hub().live_tasks() == []


def test_the_family_restricts_the_name(track: Track, names: Callable[..., None]) -> None:
    names(SIX[0], FOUR[0])
    track.outcomes = {FOUR[0]: (0, "connects")}
    connect(("some.example", 80), family=socket.AF_INET).close()
    assert track.begun == [(0, FOUR[0])]


def test_a_real_race_over_the_loopback(names: Callable[..., None]) -> None:
    names("::1", "127.0.0.1")
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        connect(("some.example", listener.getsockname()[1])) as conn,
    ):
        assert conn.getpeername() == listener.getsockname()
