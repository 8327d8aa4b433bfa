"""Names: numbers stay here, look-ups are shared and remembered, errors are the stdlib's."""

from __future__ import annotations

import os
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.hub.scope import move_on_after
from greenpump.hub.spawning import sleep, spawn
from greenpump.hub.threads import hubs, spawn_on
from greenpump.net import dns
from greenpump.offload import Pool, retire_idle
from greenpump.testing import virtual_clock, wait_all_parked

V4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))
V6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0))


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    dns.flush_cache()
    yield
    while dns._pool._running:
        os.sched_yield()
    assert dns._flights == {}
    dns.flush_cache()
    retire_idle()


class Resolver:
    """Stands in for the system's: answers what it is told, when it is told, and counts."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.answer: Any = [V6, V4]

    def __call__(self, *args: Any) -> Any:
        self.calls.append(args)
        self.threads.add(threading.get_ident())
        self.gate.wait()
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    fake = Resolver()
    monkeypatch.setattr(dns, "_getaddrinfo", fake)
    yield fake
    fake.gate.set()
    while dns._pool._running:
        os.sched_yield()


# -- as the stdlib ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ("127.0.0.1", 80),
        ("127.0.0.1", "80"),
        (b"127.0.0.1", b"80"),
        ("127.1", 80, 0, socket.SOCK_STREAM),
        ("::1", 80),
        ("::1", 80, socket.AF_INET6, socket.SOCK_DGRAM, 17),
        ("fe80::1%lo", 80),
        (None, 80),
        (None, 80, 0, 0, 0, socket.AI_PASSIVE),
        ("127.0.0.1", None),
        ("127.0.0.1", 0, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST),
        ("localhost", 80),
        ("localhost", "80", socket.AF_INET),
        ("localhost", "http", 0, socket.SOCK_STREAM),
        ("127.0.0.1", "http"),
        ("localhost", None, 0, socket.SOCK_STREAM),
        ("localhost", 80, 0, 0, 0, socket.AI_CANONNAME),
        ("localhost", 65535),
    ],
)
def test_it_answers_as_the_stdlib(args: tuple[Any, ...]) -> None:
    wanted = socket.getaddrinfo(*args)
    for _ in range(2):  # the second is remembered
        found = dns.resolve(*args)
        assert found == wanted
        assert type(found[0][0]) is type(wanted[0][0])


@pytest.mark.parametrize(
    "args",
    [
        ("127.0.0.1", 80, socket.AF_INET6),
        ("::1", 80, socket.AF_INET),
        ("not a number", 80, 0, 0, 0, socket.AI_NUMERICHOST),
        ("localhost", "no-such-service"),
        (None, None),
        ("", 80),
        ("a" * 64 + ".example", 80),
        ("a..b", 80),
        ("nul\0byte", 80),
        (3, 80),
        ("127.0.0.1", 80, 9999),
    ],
)
def test_it_refuses_as_the_stdlib(args: tuple[Any, ...]) -> None:
    with pytest.raises(BaseException) as wanted:  # noqa: PT011
        socket.getaddrinfo(*args)
    with pytest.raises(type(wanted.value)) as found:
        dns.resolve(*args)
    assert type(found.value) is type(wanted.value)
    if isinstance(wanted.value, OSError):
        assert found.value.errno == wanted.value.errno  # type: ignore[attr-defined]


@pytest.mark.parametrize("host", ["127.0.0.1", "some.example"])
def test_an_unknown_service_is_named(resolver: Resolver, host: str) -> None:
    resolver.answer = socket.gaierror(socket.EAI_SERVICE, "Servname not supported")
    with pytest.raises(socket.gaierror, match=r"Servname not supported.*: 'no-such-service'"):
        gp.resolve(host, "no-such-service")


def test_an_error_names_the_host(resolver: Resolver) -> None:
    resolver.answer = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    with pytest.raises(socket.gaierror, match=r"Name or service not known: 'no.such.example'"):
        dns.resolve("no.such.example", 80)
    with pytest.raises(UnicodeError) as caught:
        dns.resolve("a" * 64, 80)
    assert caught.value.__notes__[-1] == f"while {'a' * 64!r} was looked up"


def test_each_gets_a_note_of_its_own(resolver: Resolver) -> None:
    resolver.answer = OSError("broken")
    resolver.answer.add_note("the resolver's")
    for _ in range(2):
        with pytest.raises(OSError, match="broken") as caught:
            dns.resolve("some.example", 80)
        assert caught.value.__notes__ == [
            "the resolver's",
            "while 'some.example' was looked up",
        ]


@pytest.mark.parametrize("port", [65536, -1, "70000"])
def test_a_port_out_of_range_is_refused_not_truncated(port: int | str) -> None:
    with pytest.raises(OverflowError, match="port must be 0-65535, not"):
        dns.resolve("127.0.0.1", port)


def test_hostnames_as_the_stdlib() -> None:
    for name in ("localhost", "127.0.0.1", "", "<broadcast>"):
        assert dns.gethostbyname(name) == socket.gethostbyname(name)
    assert dns.gethostbyname_ex("localhost") == socket.gethostbyname_ex("localhost")
    assert dns.gethostbyaddr("127.0.0.1") == socket.gethostbyaddr("127.0.0.1")
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    for flags in (0, socket.NI_NUMERICHOST, numeric):
        sockaddr = ("127.0.0.1", 80)
        assert dns.getnameinfo(sockaddr, flags) == socket.getnameinfo(sockaddr, flags)


# -- who is asked, and when ------------------------------------------------------------------------


def test_a_number_leaves_no_thread(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pool: Pool, job: object) -> None:
        raise AssertionError("a thread was asked")

    monkeypatch.setattr(Pool, "start", refuse)
    dns.resolve("192.0.2.1", 80)
    dns.getnameinfo(("192.0.2.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    assert resolver.calls == []


def test_a_name_is_asked_in_a_thread_and_gets_its_port(resolver: Resolver) -> None:
    found = dns.resolve("some.example", 443, type=socket.SOCK_STREAM)
    assert [entry[4] for entry in found] == [("2001:db8::1", 443, 0, 0), ("192.0.2.1", 443)]
    assert resolver.calls == [("some.example", 0, 0, socket.SOCK_STREAM, 0, 0)]
    assert threading.get_ident() not in resolver.threads


def test_an_answer_serves_every_port_and_belongs_to_its_caller(resolver: Resolver) -> None:
    first = dns.resolve("some.example", 1)
    first.clear()
    assert [entry[4][1] for entry in dns.resolve("some.example", 2)] == [2, 2]
    assert len(resolver.calls) == 1
    dns.resolve("some.example", 2, socket.AF_INET)
    assert len(resolver.calls) == 2


def test_an_answer_is_remembered_for_ten_seconds(resolver: Resolver) -> None:
    with virtual_clock():
        dns.resolve("some.example", 80)
        sleep(9.9)
        dns.resolve("some.example", 80)
        assert len(resolver.calls) == 1
        sleep(0.2)
        dns.resolve("some.example", 80)
        assert len(resolver.calls) == 2


def test_no_such_name_is_remembered_for_one_second(resolver: Resolver) -> None:
    resolver.answer = socket.gaierror(socket.EAI_NONAME, "no such name")
    raised = []
    with virtual_clock():
        for _ in range(2):
            with pytest.raises(socket.gaierror) as caught:
                dns.resolve("none.example", 80)
            raised.append(caught.value)
        assert len(resolver.calls) == 1
        assert raised[0] is not raised[1]
        sleep(1.1)
        resolver.answer = [V4]
        assert dns.resolve("none.example", 80)


def test_a_resolver_that_does_not_answer_is_not_remembered(resolver: Resolver) -> None:
    resolver.answer = socket.gaierror(socket.EAI_AGAIN, "try again")
    for count in (1, 2):
        with pytest.raises(socket.gaierror, match=r"try again: 'some.example'"):
            dns.resolve("some.example", 80)
        assert len(resolver.calls) == count


def test_flushing_forgets(resolver: Resolver) -> None:
    dns.resolve("some.example", 80)
    dns.flush_cache()
    dns.resolve("some.example", 80)
    assert len(resolver.calls) == 2


def test_the_oldest_answer_makes_room(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "MAX_CACHED", 3)
    for name in "abcda":
        dns.resolve(f"{name}.example", 80)
    assert [call[0][0] for call in resolver.calls] == list("abcda")
    assert [key[0][0] for key in dns._cache] == list("cda")


# -- together --------------------------------------------------------------------------------------


def test_tasks_share_a_look_up(resolver: Resolver, hub: Hub) -> None:
    resolver.gate.clear()
    tasks = [spawn(dns.resolve, "some.example", port) for port in range(20)]
    wait_all_parked()
    assert tasks[0].state() == "look-up of 'some.example'"
    assert hub.externals == 20
    resolver.gate.set()
    assert [task.result()[0][4][1] for task in tasks] == list(range(20))
    assert len(resolver.calls) == 1
    assert hub.externals == 0


def test_tasks_share_an_error_but_not_the_object(resolver: Resolver) -> None:
    resolver.gate.clear()
    resolver.answer = socket.gaierror(socket.EAI_FAIL, "no")
    tasks = [spawn(dns.resolve, "some.example", 80) for _ in range(3)]
    wait_all_parked()
    resolver.gate.set()
    errors = [task.exception() for task in tasks]
    assert len({id(error) for error in errors}) == 3
    assert len(resolver.calls) == 1


def test_hubs_share_a_look_up(resolver: Resolver) -> None:
    resolver.gate.clear()

    def main() -> list[Any]:
        tasks = [spawn_on(hub, dns.resolve, "some.example", 80) for hub in hubs() for _ in range(5)]
        while len(next(iter(dns._flights.values()), dns._Lookup((), int)).waiters or ()) < 10:
            sleep(0.001)
        resolver.gate.set()
        return [task.result() for task in tasks]

    found = gp.run(main, hubs=2)
    assert len(found) == 10
    assert len(resolver.calls) == 1


def test_who_asked_first_may_leave(resolver: Resolver) -> None:
    resolver.gate.clear()
    first = spawn(dns.resolve, "some.example", 80)
    second = spawn(dns.resolve, "some.example", 80)
    wait_all_parked()
    first.cancel()
    first.join()
    assert first.cancelled
    resolver.gate.set()
    assert second.result()
    assert len(resolver.calls) == 1


def test_a_deadline_ends_the_wait_and_the_answer_is_remembered(resolver: Resolver) -> None:
    resolver.gate.clear()
    with move_on_after(0.001) as scope:
        dns.resolve("slow.example", 80)
    assert scope.expired
    resolver.gate.set()
    assert dns.resolve("slow.example", 80)
    assert len(resolver.calls) == 1


def test_a_look_up_that_everybody_left_before_it_began_is_not_made(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns, "_pool", Pool("narrow", 1))
    resolver.gate.clear()
    busy = spawn(dns.resolve, "busy.example", 80)
    leavers = [spawn(dns.resolve, "left.example", 80) for _ in range(2)]
    wait_all_parked()
    for task in leavers:
        task.cancel()
        task.join()
    assert [key[0] for key in dns._flights] == ["busy.example"]
    resolver.gate.set()
    busy.join()
    assert dns.resolve("left.example", 80)
    assert [call[0] for call in resolver.calls] == ["busy.example", "left.example"]


def test_without_a_thread_the_caller_is_told(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch, hub: Hub
) -> None:
    def refuse(pool: Pool, job: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(Pool, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            dns.resolve("some.example", 80)
    assert hub.externals == 0
    assert dns.resolve("some.example", 80)


def in_child(check: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            check()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_look_up_under_way_at_the_fork_is_made_anew_in_the_child(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver.gate.clear()
    task = spawn(dns.resolve, "some.example", 80)
    wait_all_parked()

    def check() -> None:
        monkeypatch.setattr(dns, "_getaddrinfo", lambda *args: [V4])
        resolver.gate.set()
        assert task.result(10)
        assert dns.resolve("other.example", 80)

    in_child(check)
    assert not task.done
    resolver.gate.set()
    assert len(task.result()) == 2
