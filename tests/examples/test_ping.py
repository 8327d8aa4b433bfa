"""``python -m examples.ping``: its parts on a wire of ours, the whole on loopback."""

from __future__ import annotations

import argparse
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenpump as gp
from examples.ping import HEADER, PAYLOAD, Tally, checksum, exchange, is_reply, ping, request
from greenpump.testing import virtual_clock
from tests.conftest import require

ROOT = Path(__file__).parents[2]
MY_IDENTIFIER = os.getpid() & 0xFFFF


# -- what is sent and understood -----------------------------------------------------------------


def test_the_checksum_of_the_rfcs_example() -> None:
    # RFC 1071 §3: the sum of these is ddf2.
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == ~0xDDF2 & 0xFFFF


def test_the_checksum_of_little() -> None:
    assert checksum(b"") == 0xFFFF
    assert checksum(b"\x12") == ~0x1200 & 0xFFFF
    assert checksum(b"\xff\xff" * 40_000) == 0


@given(st.binary(max_size=100))
def test_a_message_with_its_checksum_sums_to_nothing(data: bytes) -> None:
    data += b"\0" * (len(data) % 2)
    assert checksum(data + struct.pack("!H", checksum(data))) == 0


def test_a_request_is_one() -> None:
    message = request(0x1234, 7)
    assert (message[0], message[1], checksum(message)) == (8, 0, 0)
    assert HEADER.unpack_from(message)[3:] == (0x1234, 7)
    assert message[8:] == PAYLOAD


def reply(identifier: int, sequence: int, *, kind: int = 0, options: bytes = b"") -> bytes:
    """An IPv4 datagram with an echo reply, as a raw socket gets it."""
    blank = HEADER.pack(kind, 0, 0, identifier, sequence) + PAYLOAD
    message = HEADER.pack(kind, 0, checksum(blank), identifier, sequence) + PAYLOAD
    return bytes([0x45 + len(options) // 4]) + bytes(19) + options + message


def test_replies_are_told_from_all_else() -> None:
    good = reply(1, 2)
    assert is_reply(good, 1, 2)
    assert is_reply(reply(1, 2, options=bytes(8)), 1, 2)
    assert not is_reply(good, 1, 3)
    assert not is_reply(good, 2, 2)
    assert not is_reply(reply(1, 2, kind=8), 1, 2)  # the request itself, on loopback
    assert not is_reply(reply(1, 2, kind=3), 1, 2)
    assert not is_reply(good[:-1] + b"\0", 1, 2)  # damaged
    for length in range(28):
        assert not is_reply(good[:length], 1, 2)


@given(st.binary(max_size=64))
def test_nothing_that_comes_is_an_error(datagram: bytes) -> None:
    is_reply(datagram, 1, 2)


# -- on a wire of ours ---------------------------------------------------------------------------


@pytest.fixture
def wire() -> Iterator[tuple[gp.Socket, gp.Socket]]:
    """What stands for a raw socket, and its other end."""
    near, far = gp.socketpair(type=socket.SOCK_DGRAM)
    with near, far:
        yield near, far


def options(count: int) -> argparse.Namespace:
    return argparse.Namespace(count=count, interval=1.0, patience=3.0)


def test_an_answer_among_others(wire: tuple[gp.Socket, gp.Socket]) -> None:
    near, far = wire
    for datagram in (b"", reply(9, 9), reply(1, 1), reply(1, 2, kind=8), reply(1, 2)):
        far.send(datagram)
    took = exchange(near, 1, 2, 60)
    assert took is not None
    assert took > 0
    assert far.recv(100) == request(1, 2)


@virtual_clock()
def test_messages_for_others_make_nobody_wait_longer(wire: tuple[gp.Socket, gp.Socket]) -> None:
    near, far = wire

    def chatter() -> None:
        while True:
            gp.sleep(0.5)
            far.send(reply(9, 9))

    task = gp.spawn(chatter)
    with gp.timeout(2.1):
        assert exchange(near, 1, 2, 2.0) is None
    task.cancel()
    task.join()


@virtual_clock()
def test_a_lost_request_and_a_late_answer(
    wire: tuple[gp.Socket, gp.Socket], capsys: pytest.CaptureFixture[str]
) -> None:
    near, far = wire

    def host() -> None:
        late = reply(MY_IDENTIFIER, struct.unpack("!H", far.recv(100)[6:8])[0])
        while True:
            message = far.recv(100)
            far.send(late)
            far.send(reply(MY_IDENTIFIER, struct.unpack("!H", message[6:8])[0]))

    task = gp.spawn(host)
    tally = ping(near, "host", options(3))
    task.cancel()
    task.join()
    assert (tally.sent, len(tally.times)) == (3, 2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "host: seq=1 no answer in 3 s"
    assert [line.partition(" time=")[0] for line in lines[1:]] == ["host: seq=2", "host: seq=3"]


def test_an_error_of_one_request_is_not_the_end(
    wire: tuple[gp.Socket, gp.Socket], capsys: pytest.CaptureFixture[str]
) -> None:
    near, far = wire
    far.close()
    with virtual_clock():
        tally = ping(near, "host", options(2))
    assert (tally.sent, tally.times) == (2, [])
    assert capsys.readouterr().out.splitlines() == [
        "host: seq=1 Connection refused",
        "host: seq=2 Transport endpoint is not connected",  # what unix sockets say next
    ]


def test_the_tally() -> None:
    assert str(Tally(4, [0.001, 0.003])) == (
        "4 sent, 2 answered, 50 % lost, min/avg/max 1.000/2.000/3.000 ms"
    )
    assert str(Tally(1)) == "1 sent, 0 answered, 100 % lost"


# -- on loopback ---------------------------------------------------------------------------------


@pytest.fixture
def cap_net_raw() -> None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
        allowed = True
    except PermissionError:
        allowed = False
    require("CAP_NET_RAW", allowed, "run the tests as root")


HOSTS = ("127.0.0.1", "localhost", "127.0.0.77")
PING = [sys.executable, "-X", "dev", "-W", "error", "-m", "examples.ping"]

# Root gets back at exec what is in its bounding set: PR_CAPBSET_DROP, man 2 prctl.
WITHOUT_CAP_NET_RAW = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(24, 13)
os.execv(sys.argv[1], sys.argv[1:])
"""


def run(*command: str) -> tuple[int, list[str], str]:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.mark.usefixtures("cap_net_raw")
def test_hosts_of_loopback_answer() -> None:
    status, lines, errors = run(*PING, "-c2", "-i0.01", "-W30", *HOSTS)
    assert (status, errors) == (0, "")
    for host in HOSTS:
        mine = [line.removeprefix(f"{host}: ") for line in lines if line.startswith(f"{host}: ")]
        assert re.fullmatch(r"seq=1 time=\d+\.\d{3} ms", mine[0])
        assert re.fullmatch(r"seq=2 time=\d+\.\d{3} ms", mine[1])
        assert mine[2].startswith("2 sent, 2 answered, 0 % lost, min/avg/max ")
    assert len(lines) == 9


@pytest.mark.usefixtures("cap_net_raw")
def test_a_host_without_a_name_keeps_no_other_from_being_pinged() -> None:
    status, lines, errors = run(*PING, "-c1", "-W30", "not a name.invalid", "127.0.0.1")
    assert status == 2
    assert lines[-1].startswith("127.0.0.1: 1 sent, 1 answered")
    assert errors.startswith("not a name.invalid: ")
    assert "Traceback" not in errors


def test_without_the_right_it_says_what_is_missing() -> None:
    status, lines, errors = run(sys.executable, "-c", WITHOUT_CAP_NET_RAW, *PING, "127.0.0.1")
    assert (status, lines) == (2, [])
    assert errors == "127.0.0.1: Operation not permitted: raw sockets need root or CAP_NET_RAW\n"
