"""Names never reach the C code, which would block the thread to look them up."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from greenpump.net import addresses, dns
from greenpump.net.socket import Socket

LOOKED_UP = [
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", 0)),
]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What names were looked up; each has the same two addresses."""
    names: list[Any] = []

    def resolve(host: str, port: object, family: int, type: int, proto: int, flags: int) -> Any:
        names.append((host, family, type))
        if family == socket.AF_INET6:
            return [(family, type, 17, "", ("fe80::1", 0, 0, 7))]
        return LOOKED_UP

    monkeypatch.setattr(dns, "resolve", resolve)
    return names


@pytest.mark.parametrize(
    "address",
    [
        ("127.0.0.1", 80),
        ("127.1", 80),
        ("", 80),
        ("<broadcast>", 80),
        (b"127.0.0.1", 80),
        (bytearray(b"\xff"), 80),
        ("a\0b", 80),
        ("\ud800", 80),
        (None, 80),
        (),
        "nonsense",
        None,
        ["localhost", 80],
    ],
)
def test_what_is_no_name_stays_as_it_is(address: Any, asked: list[Any]) -> None:
    with Socket() as sock:
        assert addresses.numeric(sock, address) is address
    assert asked == []


def test_other_families_have_no_names(asked: list[Any]) -> None:
    with Socket(socket.AF_UNIX) as sock:
        assert addresses.numeric(sock, ("localhost", 80)) == ("localhost", 80)
    assert asked == []


@pytest.mark.parametrize("host", ["some.name", b"some.name", bytearray(b"some.name")])
def test_a_name_is_looked_up(host: Any, asked: list[Any]) -> None:
    with Socket() as sock:
        assert addresses.numeric(sock, (host, 80)) == ("127.0.0.1", 80)
    assert asked == [("some.name", socket.AF_INET, socket.SOCK_STREAM)]


def test_the_scope_of_a_link_local_address_is_kept(asked: list[Any]) -> None:
    with Socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        assert addresses.numeric(sock, ("some.name", 80)) == ("fe80::1", 80, 0, 7)
        assert addresses.numeric(sock, ("some.name", 80, 1, 2)) == ("fe80::1", 80, 1, 2)
        assert addresses.numeric(sock, ("fe80::1%lo", 80)) == ("fe80::1%lo", 80)


def test_every_call_that_takes_an_address(asked: list[Any]) -> None:
    with Socket() as listener, Socket() as client, Socket(type=socket.SOCK_DGRAM) as udp:
        listener.bind(("bind.it", 0))
        listener.listen()
        port = listener.getsockname()[1]
        client.connect(("connect.to", port))
        with Socket() as other:
            assert other.connect_ex(("connect_ex.to", port)) == 0
        udp.bind(("127.0.0.1", 0))
        udp.sendto(b"x", ("send.to", udp.getsockname()[1]))
        udp.sendmsg([b"x"], [], 0, ("sendmsg.to", udp.getsockname()[1]))
    assert [name for name, *_ in asked] == [
        "bind.it",
        "connect.to",
        "connect_ex.to",
        "send.to",
        "sendmsg.to",
    ]


def test_a_name_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*args: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(dns, "resolve", resolve)
    with Socket() as sock, pytest.raises(socket.gaierror):
        sock.connect(("name.invalid", 80))
