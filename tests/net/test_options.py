"""Options by name, read back from the kernel."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from greenpump.net.listen import socketpair
from greenpump.net.options import Credentials
from greenpump.net.socket import Socket

TCP = socket.IPPROTO_TCP


@pytest.fixture
def tcp() -> Iterator[tuple[Socket, Socket]]:
    with Socket() as listener, Socket() as client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        with server:
            yield client, server


def test_nodelay(tcp: tuple[Socket, Socket]) -> None:
    conn, _ = tcp
    assert conn.nodelay is False
    conn.nodelay = True
    assert conn.nodelay is True
    assert conn.getsockopt(TCP, socket.TCP_NODELAY)
    conn.nodelay = False
    assert conn.nodelay is False


def test_cork_holds_a_part_of_a_segment_back(tcp: tuple[Socket, Socket]) -> None:
    conn, peer = tcp
    conn.nodelay = True
    with conn.cork():
        with conn.cork():
            conn.sendall(b"head")
        conn.sendall(b"body")
        with pytest.raises(BlockingIOError):
            peer.recv(100, socket.MSG_DONTWAIT)
    assert peer.recv(100) == b"headbody"
    assert conn.getsockopt(TCP, socket.TCP_CORK) == 0


def test_a_block_that_fails_uncorks_and_one_that_closes_does_no_harm(
    tcp: tuple[Socket, Socket],
) -> None:
    conn, peer = tcp
    with pytest.raises(LookupError), conn.cork():
        raise LookupError
    assert conn.getsockopt(TCP, socket.TCP_CORK) == 0
    with conn.cork():
        conn.sendall(b"bye")
        conn.close()
    assert peer.recv_exactly(3) == b"bye"


def test_keepalive(tcp: tuple[Socket, Socket]) -> None:
    conn, _ = tcp
    conn.keepalive(30, interval=5, count=3)
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    assert [conn.getsockopt(TCP, option) for option in options] == [30, 5, 3]
    assert conn.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    conn.keepalive(None)
    assert not conn.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    with pytest.raises(OSError, match="Invalid argument"):
        conn.keepalive(0)


def test_peer_credentials() -> None:
    a, b = socketpair()
    with a, b:
        assert a.peer_credentials() == Credentials(os.getpid(), os.getuid(), os.getgid())


def test_where_it_is_not_tcp() -> None:
    a, b = socketpair()
    with a, b:
        with pytest.raises(OSError, match="not supported"):
            a.nodelay = True
        with pytest.raises(OSError, match="not supported"), a.cork():
            pass
