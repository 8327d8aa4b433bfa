"""listen: every form of address, every option as the kernel has it, refusals that help."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from greenpump.hub.spawning import spawn
from greenpump.net import dns
from greenpump.net.connect import connect
from greenpump.net.listen import listen, socketpair
from greenpump.net.socket import Socket

module: Any = import_module("greenpump.net.listen")


def option(sock: socket.socket, level: int, name: int) -> int:
    return sock.getsockopt(level, name)


# -- TCP -------------------------------------------------------------------------------------------


def test_it_listens_and_accepts() -> None:
    with listen(("127.0.0.1", 0)) as listener:
        assert type(listener) is Socket
        assert option(listener, socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert listener.gettimeout() is None
        task = spawn(listener.accept)
        with connect(listener.getsockname()) as client:
            conn, peer = task.result()
            with conn:
                assert peer == client.getsockname()


@pytest.mark.parametrize("host", ["", None, b""])
def test_no_host_is_every_address_of_both_families(host: Any) -> None:
    with listen((host, 0)) as listener:
        assert listener.family == socket.AF_INET6
        port = listener.getsockname()[1]
        for target in ("127.0.0.1", "::1"):
            with connect((target, port)):
                conn, peer = listener.accept()
                conn.close()
                assert peer[0] in (f"::ffff:{target}", target)


def test_ipv6_only_keeps_ipv4_off() -> None:
    with listen(("", 0), ipv6_only=True) as listener:
        with pytest.raises(ConnectionRefusedError):
            connect(("127.0.0.1", listener.getsockname()[1]))
        connect(("::1", listener.getsockname()[1])).close()


@pytest.mark.parametrize("code", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_without_ipv6_no_host_is_every_ipv4_address(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = module._listen_tcp

    def refuse(family: int, *rest: Any) -> Socket:
        if family == socket.AF_INET6:
            raise OSError(code, os.strerror(code))
        sock: Socket = original(family, *rest)
        return sock

    monkeypatch.setattr(module, "_listen_tcp", refuse)
    with listen(("", 0)) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"


def test_an_ipv6_address() -> None:
    with listen(("::1", 0)) as listener:
        address = listener.getsockname()
        assert address[0] == "::1"
    with listen(address) as listener:
        assert listener.getsockname() == address


def test_a_name_is_its_first_ipv4_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*args: Any) -> list[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.3", 0)),
        ]

    monkeypatch.setattr(dns, "resolve", answer)
    monkeypatch.setattr(module, "resolve", answer)
    with listen(("some.example", 0)) as listener:
        assert listener.getsockname()[0] == "127.0.0.2"


@pytest.mark.parametrize(
    ("keywords", "level", "name", "wanted"),
    [
        ({}, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
        ({"reuse_address": False}, socket.SOL_SOCKET, socket.SO_REUSEADDR, 0),
        ({}, socket.SOL_SOCKET, socket.SO_REUSEPORT, 0),
        ({"reuse_port": True}, socket.SOL_SOCKET, socket.SO_REUSEPORT, 1),
        ({}, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        ({"nodelay": False}, socket.IPPROTO_TCP, socket.TCP_NODELAY, 0),
        ({}, socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 0),
        ({"fastopen": 16}, socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16),
        ({}, socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 0),
        ({"defer_accept": 1}, socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1),
    ],
)
def test_the_kernel_has_the_option(
    keywords: dict[str, Any], level: int, name: int, wanted: int
) -> None:
    with listen(("127.0.0.1", 0), **keywords) as listener:
        assert option(listener, level, name) == wanted


def test_accepted_connections_inherit_nodelay() -> None:
    with listen(("127.0.0.1", 0)) as listener, connect(listener.getsockname()):
        conn, _ = listener.accept()
        with conn:
            assert conn.nodelay


def test_the_backlog_is_the_kernels() -> None:
    with listen(("127.0.0.1", 0), backlog=7) as listener:
        port = listener.getsockname()[1]
        # tcpi_sacked is the backlog of a listener (man 8 ss).
        info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        assert int.from_bytes(info[28:32], sys.byteorder) == 7, port


def test_reuse_port_lets_two_listen() -> None:
    with listen(("127.0.0.1", 0), reuse_port=True) as one:
        listen(one.getsockname(), reuse_port=True).close()


# -- refusals --------------------------------------------------------------------------------------


def test_an_address_in_use_says_so_and_what_to_do() -> None:
    with listen(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        with pytest.raises(OSError) as caught:
            listen((host, port))
    assert caught.value.errno == errno.EADDRINUSE
    text = str(caught.value)
    assert f"Address already in use: can't listen on 127.0.0.1:{port}" in text
    assert f"ss -ltnp 'sport = {port}'" in text
    assert "reuse_port=True" in text


def test_an_address_that_is_not_ours_says_so() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1:80.*no interface of this machine") as caught:
        listen(("192.0.2.1", 80))
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_a_privileged_port_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(sock: Socket, address: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Socket, "bind", refuse)
    with pytest.raises(PermissionError, match=r"127\.0\.0\.1:80.*CAP_NET_BIND_SERVICE"):
        listen(("127.0.0.1", 80))
    with pytest.raises(PermissionError, match=r"unix:/x: this user may not create a file there"):
        listen("/x")


@pytest.mark.parametrize("addr", [None, 80, ["127.0.0.1", "80"], ("a",), ("a", 1, 2)])
def test_what_is_no_address_is_refused(addr: Any) -> None:
    with pytest.raises(TypeError, match="listen needs"):
        listen(addr)


def test_host_and_port_in_one_string_make_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"for TCP say \('127\.0\.0\.1', 8000\)"):
        listen("127.0.0.1:8000")
    assert list(tmp_path.iterdir()) == []


def test_a_port_out_of_range_is_refused() -> None:
    for host in ("127.0.0.1", ""):
        with pytest.raises(OverflowError, match="port must be 0-65535"):
            listen((host, 65536))


# -- unix ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [str, os.fsencode, Path])
def test_it_listens_on_a_path(form: Callable[[str], Any], tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    with listen(form(path)) as listener:
        assert listener.family == socket.AF_UNIX
        with connect(path):
            conn, _ = listener.accept()
            conn.close()


def test_it_listens_on_an_abstract_name() -> None:
    with listen("\0greenpump-test-listen") as listener:
        connect("\0greenpump-test-listen").close()
        with pytest.raises(OSError, match="unix:@greenpump-test-listen: another server") as caught:
            listen("\0greenpump-test-listen")
        assert caught.value.errno == errno.EADDRINUSE
        assert listener.getsockname() == b"\0greenpump-test-listen"


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o777])
def test_the_file_has_the_mode_whatever_the_umask(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    before = os.umask(0o077)
    try:
        with listen(path, mode=mode):
            assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)


def test_the_file_is_never_open_to_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = os.chmod

    def look(path: Any, mode: int) -> None:
        seen.append(stat.S_IMODE(os.stat(path).st_mode))
        original(path, mode)

    monkeypatch.setattr(os, "chmod", look)
    before = os.umask(0)
    try:
        listen(tmp_path / "x.sock", mode=0o600).close()
    finally:
        os.umask(before)
    assert seen == [0o600]


def test_a_stale_socket_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    listen(path).close()  # its server has died
    assert path.is_socket()
    with listen(path):
        connect(path).close()


def test_a_live_servers_socket_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with listen(path, backlog=0) as listener:
        with pytest.raises(OSError, match="another server listens there") as caught:
            listen(path)
        assert caught.value.errno == errno.EADDRINUSE
        conn, _ = listener.accept()  # the probe; its place is free again
        conn.close()
        with socket.socket(socket.AF_UNIX) as filler:
            filler.connect(str(path))
            # Also one whose backlog is full is alive.
            with pytest.raises(OSError, match="another server listens there"):
                listen(path)


def test_a_file_that_is_no_socket_is_not(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("kept")
    with pytest.raises(OSError, match="no socket has this name; it is left alone"):
        listen(path)
    assert path.read_text() == "kept"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"can't listen on unix:/.*none/x\.sock"):
        listen(tmp_path / "none" / "x.sock")


# -- socketpair and limits -------------------------------------------------------------------------


def test_a_pair_is_connected() -> None:
    one, other = socketpair()
    with one, other:
        assert (type(one), type(other)) == (Socket, Socket)
        assert one.family == socket.AF_UNIX
        one.sendall(b"x")
        assert other.recv(9) == b"x"


def test_a_pair_of_datagram_sockets_keeps_records() -> None:
    one, other = socketpair(type=socket.SOCK_DGRAM)
    with one, other:
        one.send(b"a")
        one.send(b"b")
        assert (other.recv(9), other.recv(9)) == (b"a", b"b")


def test_a_pair_of_an_impossible_family() -> None:
    with pytest.raises(OSError) as caught:
        socketpair(socket.AF_INET)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_the_limit_of_fds_becomes_the_hard_one() -> None:
    program = (
        "import resource; from greenpump.net.listen import raise_nofile_limit as up\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))\n"
        "print(up() == hard == up(), resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "True True\n", done.stderr
