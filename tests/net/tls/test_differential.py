"""SSLSocket against the stdlib's blocking ssl in threads and the openssl command, both roles."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub.local import FREE_THREADED
from greenpump.hub.spawning import spawn
from greenpump.net.connect import connect
from greenpump.net.listen import listen
from greenpump.net.socket import Socket
from greenpump.net.tls import wrap_socket
from tests.net.tls.certificates import Certificates

PATIENCE = 30.0
Script = Callable[[ssl.SSLSocket], Any]
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def outcome(call: Callable[..., Any], *args: Any) -> Any:
    """What a call returned, or the type of what it raised."""
    try:
        return call(*args)
    except Exception as error:
        return type(error)


class Peers:
    """Runs one script at each end of a connection, in tasks or in threads."""

    def __init__(self, certificates: Certificates, version: ssl.TLSVersion) -> None:
        self.server, self.client = certificates.server(), certificates.client()
        self.server.minimum_version = self.server.maximum_version = version

    def wrap(self, sock: socket.socket, ours: bool, server_side: bool) -> ssl.SSLSocket:
        name = None if server_side else "localhost"
        context = self.server if server_side else self.client
        if ours:
            return wrap_socket(sock, context, server_side=server_side, server_hostname=name)
        return context.wrap_socket(sock, server_side=server_side, server_hostname=name)

    def run(self, near: Script, far: Script, *, ours_near: bool, ours_far: bool) -> list[Any]:
        listener = socket.create_server(("127.0.0.1", 0))
        a = socket.create_connection(listener.getsockname())
        b, _ = listener.accept()
        listener.close()
        joins = []
        for sock, script, ours, server_side in (
            (a, near, ours_near, False),
            (b, far, ours_far, True),
        ):
            sock.settimeout(PATIENCE)

            def side(
                sock: socket.socket = sock,
                script: Script = script,
                ours: bool = ours,
                server_side: bool = server_side,
            ) -> Any:
                adopted = Socket.from_stdlib(sock) if ours else sock
                with self.wrap(adopted, ours, server_side) as conn:
                    return script(conn)

            if ours:
                joins.append(spawn(outcome, side).result)
            else:
                joins.append(spawn(gp.offload, outcome, side).result)
        return [join() for join in joins]


def read_all(conn: ssl.SSLSocket) -> int:
    total = 0
    while data := conn.recv(65536):
        total += len(data)
    return total


def ask(conn: ssl.SSLSocket) -> Any:
    conn.sendall(b"question")
    return [conn.recv(100), conn.recv(100)]


def answer(conn: ssl.SSLSocket) -> Any:
    seen = conn.recv(100)
    conn.sendall(seen.upper())
    return [seen, conn.version(), conn.cipher()]


def send_much(conn: ssl.SSLSocket) -> Any:
    conn.sendall(bytes(2_000_000))
    conn.unwrap()
    return "sent"


def read_much(conn: ssl.SSLSocket) -> Any:
    total = read_all(conn)
    conn.unwrap()
    return total


def both_ways(conn: ssl.SSLSocket) -> Any:
    conn.sendall(b"x" * 10_000)
    got = conn.recv(1)
    while len(got) < 10_000:
        got += conn.recv(10_000 - len(got))
    conn.sendall(b"done")
    return [len(got), conn.recv(4), conn.pending()]


def by_files(conn: ssl.SSLSocket) -> Any:
    with conn.makefile("rwb") as file:
        file.write(b"one\ntwo\n")
        file.flush()
        return [file.readline(), file.readline()]


def into_a_buffer(conn: ssl.SSLSocket) -> Any:
    conn.sendall(b"0123456789")
    buffer = bytearray(4)
    seen = []
    for size in (4, 0, 2):
        seen.append((conn.recv_into(buffer, size), bytes(buffer)))
    return seen


def cut(conn: ssl.SSLSocket) -> Any:
    conn.recv(1)
    os.close(conn.detach())
    return "cut"


def cut_off(conn: ssl.SSLSocket) -> Any:
    conn.sendall(b"x")
    return [conn.recv(10), conn.recv(10)]


def cut_off_and_minding(conn: ssl.SSLSocket) -> Any:
    conn.suppress_ragged_eofs = False  # type: ignore[attr-defined]  # typeshed has it not
    conn.sendall(b"x")
    return outcome(conn.recv, 10)


def unwrap_meets_a_cut(conn: ssl.SSLSocket) -> Any:
    conn.sendall(b"x")
    conn.recv(1)
    return outcome(conn.unwrap) in (ssl.SSLEOFError, OSError, ConnectionResetError)


def downgrade(conn: ssl.SSLSocket) -> Any:
    plain = conn.unwrap()
    plain.sendall(b"in plain")
    return plain.recv(100)


def refusals(conn: ssl.SSLSocket) -> Any:
    return [
        outcome(conn.recv, -1),
        outcome(conn.recv, 0),
        outcome(conn.send, b""),
        outcome(conn.sendall, b""),
        outcome(conn.sendall, "text"),
        outcome(conn.recvfrom, 1),
        outcome(conn.recvmsg, 1),
        outcome(conn.sendmsg, [b"x"]),
        outcome(conn.dup),
        outcome(conn.connect, ("127.0.0.1", 1)),
        outcome(conn.recv, 1, socket.MSG_PEEK),
        outcome(conn.get_channel_binding, "tls-nothing"),
    ]


SCRIPTS = [
    (ask, answer),
    (answer, ask),
    (send_much, read_much),
    (read_much, send_much),
    (both_ways, both_ways),
    (by_files, by_files),
    (into_a_buffer, into_a_buffer),
    (cut, cut_off),
    (cut, cut_off_and_minding),
    (cut, unwrap_meets_a_cut),
    (downgrade, downgrade),
    (refusals, refusals),
]


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize(
    ("near", "far"), SCRIPTS, ids=lambda script: script.__name__ if callable(script) else None
)
def test_as_the_stdlib(
    certificates: Certificates, version: ssl.TLSVersion, near: Script, far: Script
) -> None:
    if FREE_THREADED and near is by_files:
        pytest.skip("CPython without the GIL: two tasks that park within files' locks abort it")
    peers = Peers(certificates, version)
    expected = peers.run(near, far, ours_near=False, ours_far=False)
    for ours_near, ours_far in ((True, False), (False, True), (True, True)):
        found = peers.run(near, far, ours_near=ours_near, ours_far=ours_far)
        assert found == expected, (ours_near, ours_far)


# -- the openssl command -------------------------------------------------------------------------


UPDATE = b">>> TLS 1.3, Handshake [length 0005], KeyUpdate"


def s_client(certificates: Certificates, port: int, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost"),
            *("-CAfile", str(certificates.authority), "-verify_return_error", *options),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def s_server(certificates: Certificates, port: int, *options: str) -> list[str]:
    certificate, key = certificates.issue("localhost", "127.0.0.1")
    command = ["openssl", "s_server", "-accept", str(port)]
    return [*command, "-cert", str(certificate), "-key", str(key), *options]


def talk(process: subprocess.Popen[bytes], *lines: bytes) -> bytes:
    """Say the lines, one as soon as the last was answered; what it said by its end."""
    assert process.stdin is not None
    assert process.stdout is not None
    said = b""
    for line in lines:
        process.stdin.write(line + b"\n")
        process.stdin.flush()
        expected = line.upper() if len(line) > 1 else UPDATE  # a command
        known = said.count(expected)
        while said.count(expected) == known:
            piece = os.read(process.stdout.fileno(), 65536)
            assert piece, said
            said += piece
    process.stdin.close()
    said += process.stdout.read()
    process.stdout.close()
    process.wait(PATIENCE)
    return said


def shout(conn: ssl.SSLSocket) -> None:
    while data := conn.recv(1000):
        conn.sendall(data.upper())


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_as_the_client(certificates: Certificates, version: str) -> None:
    with listen(("127.0.0.1", 0)) as listener:
        process = s_client(certificates, listener.getsockname()[1], version, "-alpn", "http/1.1")
        conn, _ = listener.accept()
        with wrap_socket(conn, certificates.server(), server_side=True) as server:
            serving = spawn(shout, server)
            said = gp.offload(talk, process, b"hello", b"again")
            serving.join()
    assert b"Verify return code: 0 (ok)" in said


def test_key_updates(certificates: Certificates) -> None:
    with listen(("127.0.0.1", 0)) as listener:
        process = s_client(certificates, listener.getsockname()[1], "-msg")
        conn, _ = listener.accept()
        with wrap_socket(conn, certificates.server(), server_side=True) as server:
            serving = spawn(shout, server)
            lines = (b"first", b"K", b"second", b"k", b"third", b"K", b"fourth")
            said = gp.offload(talk, process, *lines)
            serving.join()
    assert said.count(UPDATE) == 3
    assert said.count(UPDATE.replace(b">", b"<")) == 2


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_as_the_server(certificates: Certificates, version: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        s_server(certificates, port, version, "-rev"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        assert process.stdout is not None
        while gp.offload(process.stdout.readline) != b"ACCEPT\n":
            pass
        with connect(("127.0.0.1", port), PATIENCE, tls=certificates.client()) as client:
            for line in (b"hello", b"again"):
                client.sendall(line + b"\n")
                assert client.recv_until(b"\n") == line[::-1] + b"\n"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("writing", [False, True])
def test_a_server_that_begins_another_handshake(certificates: Certificates, writing: bool) -> None:
    """TLS 1.2's renegotiation, met by a reader or by a writer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        s_server(certificates, port, "-tls1_2", "-msg"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said = bytearray()
    seen = threading.Condition()

    def collect() -> None:
        assert process.stdout is not None
        while piece := os.read(process.stdout.fileno(), 65536):
            with seen:
                said.extend(piece)
                seen.notify_all()

    def await_said(what: bytes, times: int = 1) -> None:
        with seen:
            assert seen.wait_for(lambda: said.count(what) >= times, PATIENCE), bytes(said)

    collecting = threading.Thread(target=collect)
    collecting.start()
    try:
        assert process.stdin is not None
        gp.offload(await_said, b"ACCEPT")
        with connect(("127.0.0.1", port), PATIENCE, tls=certificates.client()) as client:
            client.sendall(b"before\n")
            gp.offload(await_said, b"before")
            reader = None if writing else spawn(client.recv_until, b"\n")
            process.stdin.write(b"R\n")
            process.stdin.flush()
            gp.offload(await_said, b"HelloRequest")
            if reader is None:
                assert not client.pending()
                client.settimeout(1)
                with pytest.raises(TimeoutError):
                    client.recv(1)
                client.settimeout(PATIENCE)
            gp.offload(await_said, b"Finished", 4)
            client.sendall(b"after\n")
            gp.offload(await_said, b"after")
            process.stdin.write(b"to you\n")
            process.stdin.flush()
            got = reader.result() if reader is not None else client.recv_until(b"\n")
            assert got == b"to you\n"
    finally:
        process.kill()
        process.wait()
        gp.offload(collecting.join)
        assert process.stdin is not None
        process.stdin.close()
        assert process.stdout is not None
        process.stdout.close()
