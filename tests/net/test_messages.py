"""What the datagram calls do beyond socket.socket's; the rest is in test_socket_differential.py."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from greenpump.hub.local import this_hub
from greenpump.hub.pollable import NO, PERHAPS, QUOTA, YES
from greenpump.hub.scope import move_on_after
from greenpump.hub.spawning import spawn
from greenpump.net import addresses
from greenpump.net.listen import socketpair
from greenpump.net.socket import Socket
from greenpump.testing import virtual_clock, wait_all_parked


def now() -> float:
    return this_hub().timers.clock() / 1e9


def udp() -> Socket:
    sock = Socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


RECEIVE: dict[str, Callable[[Socket], Any]] = {
    "recvfrom": lambda sock: sock.recvfrom(100)[0],
    "recvfrom_into": lambda sock: sock.recvfrom_into(bytearray(100))[0],
    "recvmsg": lambda sock: sock.recvmsg(100)[0],
    "recv": lambda sock: sock.recv(100),
}


@pytest.mark.parametrize("receive", RECEIVE.values(), ids=RECEIVE)
@pytest.mark.parametrize("timeout", [None, 60])
def test_a_burst_is_received_without_asking_for_each(
    receive: Callable[[Socket], Any], timeout: float | None
) -> None:
    with udp() as here, udp() as there:
        here.settimeout(timeout)
        flags = []

        def work() -> None:
            while receive(here):
                flags.append(here._pollable.readable)

        task = spawn(work)
        wait_all_parked()
        for size in (5, 5, 0):
            for number in range(size or 1):
                there.sendto(bytes(size and 1 + number), here.getsockname())
            wait_all_parked()
            # The first was waited for and the kernel is asked for the second: those are many.
            assert flags == [PERHAPS, YES, YES, YES, YES][:size]
            assert here._pollable.readable == (NO if size else PERHAPS)
            assert not here._pollable.level
            flags.clear()
        task.join()


def test_datagrams_that_come_one_by_one_stay_on_edges() -> None:
    with udp() as here, udp() as there:
        task = spawn(lambda: [here.recvfrom(10)[0] for _ in range(10)])
        for number in range(10):
            wait_all_parked()
            assert not here._pollable.level
            there.sendto(b"%d" % number, here.getsockname())
        assert task.result() == [b"%d" % number for number in range(10)]


def test_a_burst_is_shared_among_those_who_wait() -> None:
    with udp() as here, udp() as there:
        tasks = [spawn(here.recvfrom, 10) for _ in range(5)]
        wait_all_parked()
        for number in range(5):
            there.sendto(b"%d" % number, here.getsockname())
        assert [task.result()[0] for task in tasks] == [b"%d" % number for number in range(5)]


def test_a_flood_of_datagrams_starves_nobody() -> None:
    with udp() as sock:
        address = sock.getsockname()
        ran: list[int] = []
        other = spawn(ran.append, 1)
        for _ in range(QUOTA + 2):
            sock.sendto(b"x", address)
        assert ran
        other.join()
        assert sock.recvfrom(1)[0] == b"x"
        other = spawn(ran.append, 2)
        for _ in range(QUOTA + 1):
            sock.recvfrom(1)
        assert ran == [1, 2]
        other.join()


def test_a_cancel_takes_no_datagram_with_it() -> None:
    with udp() as sock:
        for number in range(3 * QUOTA):
            sock.sendto(b"%d" % number, sock.getsockname())
        taken = []
        with move_on_after() as scope:
            scope.cancel()
            while True:  # the quota's yield is where it is cancelled
                taken.append(int(sock.recvfrom(10)[0]))
        assert 0 < len(taken) < 3 * QUOTA
        while len(taken) < 3 * QUOTA:
            taken.append(int(sock.recvfrom(10)[0]))
        assert taken == list(range(3 * QUOTA))


def test_only_a_name_is_looked_at_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def numeric(sock: Socket, address: Any) -> Any:
        asked.append(address)
        return addresses.numeric(sock, address)

    monkeypatch.setattr("greenpump.net.messages.numeric", numeric)
    with udp() as sock:
        address = sock.getsockname()
        for target in (address, ("localhost", address[1]), (b"127.0.0.1", address[1])):
            assert sock.sendto(b"x", target) == 1
        assert asked == [("localhost", address[1]), (b"127.0.0.1", address[1])]
        with pytest.raises(TypeError, match="bytes-like"):
            sock.sendto("text", address)


@virtual_clock()
def test_a_full_queue_of_another_socket_is_tried_again_until_the_timeout() -> None:
    name = f"\0greenpump-{os.getpid()}-full"
    with (
        Socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
        Socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
        Socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(name)
        while True:
            try:
                other.sendto(b"x", socket.MSG_DONTWAIT, name)
            except BlockingIOError:
                break
        sender.settimeout(5)
        start = now()
        with pytest.raises(TimeoutError, match="timed out: sendto"):
            sender.sendto(b"y", name)
        with pytest.raises(TimeoutError, match="timed out: sendmsg"):
            sender.sendmsg([b"y"], [], 0, name)
        assert 10 <= round(now() - start, 6) < 10.2
        sending = spawn(sender.sendto, b"y", name)
        wait_all_parked()
        receiver.recv(1)
        assert sending.result() == 1


def test_a_short_read_of_a_stream_with_fds_leaves_what_follows_readable() -> None:
    a, b = socketpair()
    with a, b:
        reading = spawn(socket.recv_fds, b, 100, 1)
        wait_all_parked()
        socket.send_fds(a, [b"one"], [a.fileno()])
        a.sendall(b"two")
        data, fds, _, _ = reading.result()
        os.close(fds[0])
        assert data == b"one"
        assert b.recv(100) == b"two"
        waiting = spawn(b.recv, 100)
        wait_all_parked()
        a.sendall(b"three")
        assert waiting.result() == b"three"


def test_a_sender_that_waits_does_not_lose_an_iterator() -> None:
    a, b = socketpair()
    with a, b:
        sending = spawn(a.sendall, bytes(3_000_000))
        wait_all_parked()
        message = spawn(a.sendmsg, iter([b"after ", b"that"]), iter([]))
        b.recv_exactly(3_000_000)
        sending.result()
        assert message.result() == 10
        assert b.recv_exactly(10) == b"after that"


def test_raw_sockets() -> None:
    try:
        ping = Socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except PermissionError:
        pytest.skip("needs the right to raw sockets (CAP_NET_RAW)")
    with ping:
        ping.settimeout(5)
        waiting = spawn(ping.recvfrom, 100)
        wait_all_parked()
        ping.sendto(b"\x08\x00\xf7\xff\x00\x00\x00\x00", ("127.0.0.1", 0))
        data, address = waiting.result()
        assert data[0] >> 4 == 4
        assert address == ("127.0.0.1", 0)


def test_sendall_waits_for_room_for_an_empty_datagram() -> None:
    count = 30  # more than the smallest buffer holds
    one, other = socketpair(type=socket.SOCK_DGRAM)
    with one, other:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)

        def send() -> None:
            for _ in range(count):
                one.sendall(b"")

        sending = spawn(send)
        wait_all_parked()
        assert not sending.done
        received = [other.recv(1) for _ in range(count)]
        sending.join()
        assert received == [b""] * count
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(1)
