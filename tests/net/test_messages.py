"""What the datagram calls do beyond socket.socket's; the rest is in test_socket_differential.py."""

from __future__ import annotations

import os
import socket

import pytest

from greenpump.hub.local import this_hub
from greenpump.hub.spawning import spawn
from greenpump.net.listen import socketpair
from greenpump.net.socket import Socket
from greenpump.testing import virtual_clock, wait_all_parked


def now() -> float:
    return this_hub().timers.clock() / 1e9


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
