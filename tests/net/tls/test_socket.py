"""SSLSocket: the stdlib's interface over a Socket's waiting."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.hub.local import this_hub
from greenpump.hub.spawning import current, spawn, yield_now
from greenpump.net.listen import listen, socketpair
from greenpump.net.socket import Socket
from greenpump.net.tls import SSLContext, SSLSocket, wrap_socket
from greenpump.sync.cases import readable
from greenpump.sync.select import select
from greenpump.testing import wait_all_parked
from tests.net.tls.certificates import Certificates
from tests.net.tls.shaping import only, record

Pair = Callable[..., tuple[SSLSocket, SSLSocket]]
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
MEGABYTES = 3_000_000


# -- the connection ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_what_it_tells_of_the_connection(
    pair: Pair, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    server = certificates.server()
    server.set_alpn_protocols(["h2", "http/1.1"])
    client = only(certificates.client(), version)
    client.set_alpn_protocols(["http/1.1"])
    a, b = pair(client=client, server=server)
    assert isinstance(a, Socket)
    assert isinstance(a, ssl.SSLSocket)
    assert a.version() == b.version() == version.name.replace("_", ".")
    assert a.selected_alpn_protocol() == b.selected_alpn_protocol() == "http/1.1"
    assert a.cipher() == b.cipher()
    assert a.getpeercert()["subject"] == ((("commonName", "localhost"),),)  # type: ignore[index]
    assert b.getpeercert() is None
    assert (a.server_side, b.server_side, a.server_hostname) == (False, True, "localhost")
    assert a.context is client
    if version is ssl.TLSVersion.TLSv1_2:
        assert a.get_channel_binding() == b.get_channel_binding() is not None
    assert a.compression() is None
    assert b.shared_ciphers()
    assert a.pending() == 0


def test_sni_chooses_the_certificate(pair: Pair, certificates: Certificates) -> None:
    asked: list[Any] = []
    other = certificates.server("other.example")
    server = certificates.server()

    def choose(conn: ssl.SSLSocket, name: str, context: ssl.SSLContext) -> None:
        asked.append((type(conn), name))
        gp.yield_now()  # a look-up that parks
        if name == "other.example":
            conn.context = other

    server.sni_callback = choose  # type: ignore[assignment]
    a, _ = pair(server=server, server_hostname="other.example")
    assert asked == [(SSLSocket, "other.example")]
    assert a.getpeercert()["subject"] == ((("commonName", "other.example"),),)  # type: ignore[index]


def test_client_certificates(pair: Pair, certificates: Certificates) -> None:
    server = certificates.server()
    server.verify_mode = ssl.CERT_REQUIRED
    client = certificates.client()
    client.load_cert_chain(*certificates.issue("someone"))
    a, b = pair(client=client, server=server)
    a.sendall(b"hello")
    assert b.recv(10) == b"hello"
    assert b.getpeercert()["subject"] == ((("commonName", "someone"),),)  # type: ignore[index]


def asks_later(pair: Pair, certificates: Certificates) -> tuple[SSLSocket, SSLSocket]:
    """A connection whose server has just asked for the client's certificate."""
    server = certificates.server()
    server.verify_mode = ssl.CERT_REQUIRED
    client = certificates.client()
    client.load_cert_chain(*certificates.issue("someone"))
    server.post_handshake_auth = client.post_handshake_auth = True
    a, b = pair(client=client, server=server)
    b.verify_client_post_handshake()
    return a, b


def test_client_certificates_after_the_handshake(pair: Pair, certificates: Certificates) -> None:
    a, b = asks_later(pair, certificates)
    reader = spawn(b.recv, 10)  # the request goes with it
    wait_all_parked()
    a.settimeout(0)
    with pytest.raises(ssl.SSLWantReadError):
        a.recv(10)
    a.sendall(b"hello")
    assert reader.result() == b"hello"
    assert b.getpeercert()["subject"] == ((("commonName", "someone"),),)  # type: ignore[index]
    with pytest.raises(ssl.SSLError):
        a.verify_client_post_handshake()


def test_unwrap_in_the_middle_of_a_handshake_is_no_end(
    pair: Pair, certificates: Certificates
) -> None:
    a, b = asks_later(pair, certificates)
    with pytest.raises(ssl.SSLError, match="SHUTDOWN_WHILE_IN_INIT"):
        b.unwrap()
    reader = spawn(b.recv, 10)
    wait_all_parked()
    a.sendall(b"hello")
    assert reader.result() == b"hello"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_used_again(
    pair: Pair, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    server, client = certificates.server(), only(certificates.client(), version)
    a, b = pair(client=client, server=server)
    b.sendall(b"x")
    assert a.recv(1) == b"x"  # with TLS 1.3 the ticket comes before it
    assert not a.session_reused
    again, _ = pair(client=client, server=server, session=a.session)
    assert again.session_reused


def test_a_certificate_nobody_vouches_for(certificates: Certificates) -> None:
    listener = listen(("127.0.0.1", 0))
    address = listener.getsockname()

    def accept() -> None:
        conn, _ = listener.accept()
        with pytest.raises(ssl.SSLError, match=r"UNKNOWN_CA.*: handshake with 127\.0\.0\.1:"):
            wrap_socket(conn, certificates.server(), server_side=True)
        assert conn.fileno() == -1

    server = spawn(accept)
    with pytest.raises(
        ssl.SSLCertVerificationError, match=f"handshake with 127.0.0.1:{address[1]}"
    ):
        gp.connect(address, tls=True)
    server.result()
    listener.close()


def test_it_is_made_only_by_wrapping(certificates: Certificates) -> None:
    with pytest.raises(TypeError, match="wrap_socket"):
        SSLSocket()
    a, b = socketpair()
    with a, b:
        with pytest.raises(ValueError, match="check_hostname requires server_hostname"):
            wrap_socket(a, certificates.client())
        with pytest.raises(ValueError, match="client mode"):
            wrap_socket(a, certificates.server(), server_side=True, server_hostname="x")
        a.setblocking(False)
        with pytest.raises(ValueError, match="do_handshake_on_connect"):
            wrap_socket(a, certificates.client(), server_hostname="localhost")
    one, other = socketpair(type=socket.SOCK_DGRAM)
    with one, other, pytest.raises(NotImplementedError, match="stream"):
        wrap_socket(one, certificates.client(), server_hostname="localhost")


def test_connect_and_accept_of_the_object(certificates: Certificates) -> None:
    context = SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.issue("localhost", "127.0.0.1"))
    with context.wrap_socket(listen(("127.0.0.1", 0)), server_side=True) as listener:
        accepting = spawn(listener.accept)
        client = wrap_socket(Socket(), certificates.client(), server_hostname="localhost")
        with client:
            client.connect(listener.getsockname())
            server, peer = accepting.result()
            with server:
                assert peer == client.getsockname()
                server.sendall(b"hello")
                assert client.recv(10) == b"hello"
                with pytest.raises(ValueError, match="already-connected"):
                    client.connect(listener.getsockname())


def test_nothing_leaves_in_plain_while_the_kernel_connects(certificates: Certificates) -> None:
    def failing(sock: SSLSocket, address: Any) -> int | None:
        with pytest.raises(BlockingIOError) as failure:
            sock.connect(address)
        return failure.value.errno

    for connect in (SSLSocket.connect_ex, failing):
        with listen(("127.0.0.1", 0)) as listener:
            client = wrap_socket(Socket(), certificates.client(), server_hostname="127.0.0.1")
            with client:
                client.setblocking(False)
                assert connect(client, listener.getsockname()) == errno.EINPROGRESS
                plain, _ = listener.accept()
                with pytest.raises(ssl.SSLWantReadError):
                    client.send(b"hello")
                accepting = spawn(wrap_socket, plain, certificates.server(), server_side=True)
                client.do_handshake(block=True)
                with accepting.result() as server:
                    client.send(b"hello")
                    assert server.recv(10) == b"hello"
                    with pytest.raises(ValueError, match="already-connected"):
                        client.connect(listener.getsockname())


def test_nothing_leaves_in_plain_after_a_handshake_that_failed(certificates: Certificates) -> None:
    with listen(("127.0.0.1", 0)) as listener:
        trusting_nobody = SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with trusting_nobody.wrap_socket(Socket(), server_hostname="127.0.0.1") as client:
            connecting = spawn(client.connect, listener.getsockname())
            plain, _ = listener.accept()
            raw = plain.dup()
            with plain, raw:
                with pytest.raises(ssl.SSLError):
                    wrap_socket(plain, certificates.server(), server_side=True)
                with pytest.raises(ssl.SSLCertVerificationError):
                    connecting.result()
                with pytest.raises(ssl.SSLError):
                    client.send(b"hello")
                raw.setblocking(False)
                with pytest.raises(BlockingIOError):
                    raw.recv(10)


def test_a_connect_that_failed_can_be_repeated(certificates: Certificates) -> None:
    with listen(("127.0.0.1", 0)) as gone:
        nobody = gone.getsockname()
    client = wrap_socket(Socket(), certificates.client(), server_hostname="127.0.0.1")
    with client, listen(("127.0.0.1", 0)) as listener:
        with pytest.raises(ConnectionRefusedError):
            client.connect(nobody)
        assert client.connect_ex(nobody) == errno.ECONNREFUSED
        connecting = spawn(client.connect, listener.getsockname())
        with wrap_socket(listener.accept()[0], certificates.server(), server_side=True) as server:
            connecting.result()
            server.sendall(b"hello")
            assert client.recv(10) == b"hello"


def test_a_name_that_cannot_be_one_closes_the_connection(certificates: Certificates) -> None:
    a, b = socketpair()
    with a, b:
        with pytest.raises(ValueError, match="label empty"):
            wrap_socket(a, certificates.client(), server_hostname=".localhost")
        assert a.fileno() == -1
        assert b.recv(1) == b""


def test_plain_data_of_a_dead_connection_does_not_pass_for_tls(certificates: Certificates) -> None:
    with listen(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        conn, _ = listener.accept()
        client.sendall(b"in plain")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        with pytest.raises(OSError):
            wrap_socket(conn, certificates.server(), server_side=True)
        assert conn.fileno() == -1


def test_a_handshake_in_steps(certificates: Certificates) -> None:
    near, far = socketpair()
    near.setblocking(False)
    far.setblocking(False)
    a = wrap_socket(
        near, certificates.client(), server_hostname="localhost", do_handshake_on_connect=False
    )
    b = wrap_socket(far, certificates.server(), server_side=True, do_handshake_on_connect=False)
    with a, b:
        left = [a, b]
        for conn in (a, b, a, b, a, b):
            try:
                conn.do_handshake()
            except ssl.SSLWantReadError:
                continue
            if conn in left:
                left.remove(conn)
        assert left == []
        assert a.version() == b.version() == "TLSv1.3"


def test_the_handshake_is_done_when_needed(certificates: Certificates) -> None:
    near, far = socketpair()
    b = wrap_socket(far, certificates.server(), server_side=True, do_handshake_on_connect=False)
    reader = spawn(b.recv, 10)
    writer = spawn(b.sendall, b"from both at once")
    with wrap_socket(near, certificates.client(), server_hostname="localhost") as a, b:
        a.sendall(b"hello")
        assert reader.result() == b"hello"
        assert a.recv_exactly(17) == b"from both at once"
        writer.join()


def test_another_handshake_leaves_the_stream_in_order(pair: Pair) -> None:
    a, b = pair()
    a.sendall(b"a record")
    assert b.recv(2) == b"a "
    b.do_handshake()
    b.settimeout(10)
    assert b.recv(10) == b"record"

    data = os.urandom(100) * 160
    a.setblocking(False)
    sent = 0
    with suppress(ssl.SSLWantWriteError):
        while sent < MEGABYTES:
            sent += a.send(data)
    assert sent < MEGABYTES
    a.do_handshake()
    a.setblocking(True)
    sending = spawn(a.sendall, data)  # the same again, as OpenSSL would have it
    assert b.recv_exactly(sent + len(data)) == data * (sent // len(data) + 1)
    sending.result()
    a.close()
    assert b.recv(10) == b""


# -- the end -------------------------------------------------------------------------------------


def test_close_says_farewell(pair: Pair) -> None:
    a, b = pair(suppress_ragged_eofs=False)
    a.sendall(b"last")
    a.close()
    assert [b.recv(10), b.recv(10), b.recv(10)] == [b"last", b"", b""]


def cut(a: SSLSocket, b: SSLSocket) -> None:
    """End the connection under TLS."""
    b.sendall(b"x")
    assert a.recv(1) == b"x"  # the tickets, too: what was not read would make it a reset
    os.close(a.detach())


def test_a_cut_connection(pair: Pair) -> None:
    a, b = pair(suppress_ragged_eofs=False)
    cut(a, b)
    for _ in range(2):
        with pytest.raises(ssl.SSLEOFError):
            b.recv(10)
    a, b = pair()
    cut(a, b)
    assert [b.recv(10), b.recv(10)] == [b"", b""]
    assert b.recv_into(bytearray(3)) == 0


def test_after_shutdown_the_other_direction_works(pair: Pair) -> None:
    a, b = pair()
    a.shutdown(socket.SHUT_WR)
    assert b.recv(10) == b""
    b.sendall(b"answer")
    assert a.recv(10) == b"answer"
    with pytest.raises(BrokenPipeError):
        a.send(b"more")
    b.close()
    assert a.recv(10) == b""


def test_unwrap_and_wrap_again(pair: Pair, certificates: Certificates) -> None:
    a, b = pair()

    def other() -> Any:
        assert b.recv(10) == b""
        b.unwrap()
        b.sendall(b"in plain")
        return wrap_socket(b, certificates.server(), server_side=True)

    server = spawn(other)
    assert a.unwrap() is a
    assert a.version() is None
    assert a.recv_exactly(8) == b"in plain"
    with pytest.raises(ValueError, match="No SSL wrapper"):
        a.unwrap()
    with pytest.raises(ValueError, match="unwrapped"):
        a.read()
    again = wrap_socket(a, certificates.client(), server_hostname="localhost")
    with again, server.result() as conn:
        conn.sendall(b"over TLS")
        assert again.recv(10) == b"over TLS"


def test_plain_bytes_right_behind_the_farewell(pair: Pair) -> None:
    a, b = pair()
    unwrapping = spawn(b.unwrap)
    wait_all_parked()
    a.unwrap()
    a.sendall(b"first\nsecond")
    assert unwrapping.result() is b
    assert b.recv_until(b"\n") == b"first\n"
    assert b.recv(10) == b"second"


def test_unwrap_while_the_peer_sends_on(pair: Pair) -> None:
    a, b = pair()
    a.sendall(b"not to be lost unnoticed")
    with pytest.raises(ssl.SSLError, match="APPLICATION_DATA_AFTER_CLOSE_NOTIFY"):
        b.unwrap()
    a.settimeout(10)
    b.settimeout(10)
    assert a.recv(10) == b""  # it is told
    with pytest.raises(ssl.SSLError, match="APPLICATION_DATA_AFTER_CLOSE_NOTIFY"):
        b.recv(10)  # and here nobody waits for what can't be understood any more


def test_unwrap_before_all_was_received(pair: Pair) -> None:
    a, b = pair()
    a.sendall(b"line\nmore")
    assert b.recv_until(b"\n") == b"line\n"
    with pytest.raises(ssl.SSLError, match="received"):
        b.unwrap()
    assert b.recv(10) == b"more"

    # And where a task receives meanwhile.
    reader = spawn(b.recv_until, b"\n")
    unwrapping = spawn(b.unwrap)
    wait_all_parked()
    a.sendall(b"line\nmore")
    other = spawn(a.unwrap)
    assert reader.result() == b"line\n"
    with pytest.raises(ssl.SSLError, match="received"):
        unwrapping.result()
    other.result()
    a.sendall(b"in plain")
    assert [b.recv(10), b.recv(10)] == [b"more", b""]
    assert b.unwrap().recv(10) == b"in plain"


def test_unwrap_ends_a_reader(pair: Pair) -> None:
    a, b = pair()
    reader = spawn(a.recv, 10)
    wait_all_parked()
    unwrapping = spawn(a.unwrap)
    wait_all_parked()
    assert b.recv(10) == b""
    b.unwrap()
    assert reader.result() == b""
    unwrapping.result()


def test_closing_wakes_who_waits(pair: Pair) -> None:
    a, _ = pair()
    tasks = [spawn(a.recv, 10), spawn(a.recv, 10), spawn(a.sendall, bytes(MEGABYTES))]
    wait_all_parked()
    a.close()
    for task in tasks:
        with pytest.raises(OSError):
            task.result()
    with pytest.raises(OSError):
        a.recv(1)


def test_abort(pair: Pair) -> None:
    a, b = pair(suppress_ragged_eofs=False)
    a.abort()
    with pytest.raises(OSError):
        b.recv(10)


def test_a_long_close(pair: Pair) -> None:
    a, b = pair()
    closing = spawn(a.close, linger=60)
    assert b.recv(10) == b""
    b.close()
    closing.join()
    assert a.fileno() == -1


# -- what TLS can't do ----------------------------------------------------------------------------


def test_what_is_refused(pair: Pair, certificates: Certificates) -> None:
    a, _ = pair()
    for call in (
        a.dup,
        lambda: a.recvmsg(1),
        lambda: a.sendmsg([b"x"]),
        lambda: a.recvmsg_into([]),
    ):
        with pytest.raises(NotImplementedError):
            call()
    refused: list[Callable[[], Any]] = [
        lambda: a.recvfrom(1),
        lambda: a.recvfrom_into(bytearray(1)),
        lambda: a.sendto(b"x", ("127.0.0.1", 1)),
        lambda: a.recv(1, socket.MSG_PEEK),
        lambda: a.recv_into(bytearray(1), 1, socket.MSG_PEEK),
        lambda: a.send(b"x", socket.MSG_OOB),
        lambda: a.sendall(b"x", socket.MSG_OOB),
    ]
    for each in refused:
        with pytest.raises(ValueError, match="not allowed"):
            each()
    with pytest.raises(NotImplementedError, match="unwrap"):
        wrap_socket(a, certificates.client(), server_hostname="localhost")


# -- without a task -------------------------------------------------------------------------------


def test_detached_until_plaintext_comes(pair: Pair, hub: Hub) -> None:
    a, b = pair()
    seen: list[bytes] = []
    b.detach_until_readable(lambda conn: seen.append(conn.recv(100)))
    wait_all_parked()
    assert hub.live_tasks() == []
    assert b.detached
    a.sendall(b"hello")
    wait_all_parked()
    assert seen == [b"hello"]


def test_a_part_of_a_record_is_not_readable(pair: Pair, hub: Hub) -> None:
    a, b = pair()
    seen: list[bytes] = []
    sealed = record(a, b"hello")
    raw = socket.socket(fileno=os.dup(a.fileno()))
    b.detach_until_readable(lambda conn: seen.append(conn.recv(100)))
    raw.sendall(sealed[:7])
    wait_all_parked()
    assert (seen, hub.live_tasks()) == ([], [])
    raw.sendall(sealed[7:])
    wait_all_parked()
    assert seen == [b"hello"]
    raw.close()


@pytest.mark.parametrize("end", [False, True])
def test_what_was_decrypted_already_counts(pair: Pair, end: bool) -> None:
    a, b = pair()
    a.sendall(b"abc")
    assert b.recv(1) == b"a"
    if end:
        assert b.recv(2) == b"bc"
        a.close()
    seen: list[bytes] = []
    b.detach_until_readable(lambda conn: seen.append(conn.recv(100)))
    wait_all_parked()
    assert seen == [b"" if end else b"bc"]


@pytest.mark.parametrize("persist", [False, True])
def test_a_detached_task_goes_by_the_functions_name(pair: Pair, persist: bool) -> None:
    a, b = pair()
    seen: list[object] = []

    def talk(greeting: str, conn: SSLSocket) -> None:
        seen.append((greeting, current().name.partition("#")[0].rpartition(".")[2], conn.recv(9)))

    b.detach_until_readable(partial(talk, "hello"), persist=persist)
    wait_all_parked()
    a.sendall(b"x")
    wait_all_parked()
    assert seen == [("hello", "talk", b"x")]
    b.close()
    wait_all_parked()


@pytest.mark.parametrize("size", [1, 2, 100])
def test_one_that_persists_is_called_as_long_as_there_is_plaintext(
    pair: Pair, hub: Hub, size: int
) -> None:
    a, b = pair()
    seen: list[bytes] = []

    def talk(conn: SSLSocket) -> None:
        seen.append(conn.recv(size))
        if seen[-1] == b"":
            conn.close()

    b.detach_until_readable(talk, persist=True)
    for n in range(3):
        wait_all_parked()
        assert hub.live_tasks() == []
        a.sendall(b"a record")
        wait_all_parked()
        assert b"".join(seen) == b"a record" * (n + 1)
    a.close()
    wait_all_parked()
    assert seen[-1] == b""
    assert b.fileno() == -1


def test_one_that_persists_begins_with_what_was_decrypted(pair: Pair) -> None:
    a, b = pair()
    a.sendall(b"abc")
    assert b.recv(1) == b"a"
    seen: list[bytes] = []
    b.detach_until_readable(lambda conn: seen.append(conn.recv(100)), persist=True)
    wait_all_parked()
    a.sendall(b"def")
    wait_all_parked()
    assert seen == [b"bc", b"def"]
    b.close()
    wait_all_parked()


def test_one_that_persists_hands_over(pair: Pair) -> None:
    a, b = pair()
    seen: list[object] = []

    def first(conn: SSLSocket) -> None:
        seen.append(("first", conn.recv(1)))
        conn.detach_until_readable(lambda conn: seen.append(("second", conn.recv(1))))

    b.detach_until_readable(first, persist=True)
    a.sendall(b"abc")
    wait_all_parked()
    assert seen == [("first", b"a"), ("second", b"b")]
    assert b.recv(9) == b"c"


@pytest.mark.parametrize("by", ["fn", "another"])
def test_one_that_is_closed_with_plaintext_left_is_not_called_again(pair: Pair, by: str) -> None:
    a, b = pair()
    seen: list[bytes] = []

    def talk(conn: SSLSocket) -> None:
        seen.append(conn.recv(1))
        if by == "fn":
            conn.close()
        elif len(seen) == 2:
            spawn(conn.close)  # it runs when the calls let others run

    b.detach_until_readable(talk, persist=True)
    a.sendall(b"abcdef")
    wait_all_parked()
    assert seen == ([b"a"] if by == "fn" else [b"a", b"b"])
    assert b.fileno() == -1


def test_a_task_that_records_say_nothing_to_keeps_its_place(pair: Pair, hub: Hub) -> None:
    a, b = pair()
    places: list[str] = []
    b.detach_until_readable(lambda conn: places.append(current().spawned_at()))
    sealed = record(a, b"hello")
    raw = socket.socket(fileno=os.dup(a.fileno()))
    with raw:
        raw.sendall(sealed[:7])
        wait_all_parked()
        raw.sendall(sealed[7:])
        wait_all_parked()
    assert places[0].startswith(f"{__file__}:")


def test_one_that_leaves_the_end_unread_starves_nobody(pair: Pair) -> None:
    a, b = pair()
    calls = 0

    def idle_talk(conn: SSLSocket) -> None:
        nonlocal calls
        calls += 1
        conn.recv(9)
        if calls == 1000:
            conn.close()  # nobody else had a turn

    b.detach_until_readable(idle_talk, persist=True)
    a.close()
    for _ in range(200):
        yield_now()
    assert 0 < calls < 1000
    b.close()
    wait_all_parked()


def test_a_select_sees_what_the_kernel_does_not_have_any_more(pair: Pair) -> None:
    a, b = pair()
    assert select(readable(b), timeout=0) is None
    a.sendall(b"together")
    assert select(readable(b)) == (0, b)
    assert b.recv(3) == b"tog"
    assert select(readable(b)) == (0, b)  # the rest of the record
    assert b.recv(100) == b"ether"
    assert select(readable(b), timeout=0) is None

    a.sendall(b"last words")
    a._farewell()  # and the fd stays open: only TLS knows of the end
    assert b.recv(100) == b"last words"
    for _ in range(2):
        assert select(readable(b)) == (0, b)
        assert b.recv(100) == b""


def test_a_select_leaves_the_rest_to_who_receives(pair: Pair) -> None:
    a, b = pair()
    reader = spawn(b.recv, 100)
    wait_all_parked()
    assert select(readable(b), timeout=0) is None
    a.sendall(b"for the reader")
    assert reader.result() == b"for the reader"


def test_a_select_after_unwrap(pair: Pair) -> None:
    a, b = pair()
    other = spawn(b.unwrap)
    a.unwrap()
    other.join()
    assert select(readable(b), timeout=0) is None
    b._rest = b"came behind the farewell"
    assert select(readable(b)) == (0, b)


def test_detaching_needs_nobody_who_receives(pair: Pair) -> None:
    a, b = pair()
    reader = spawn(b.recv, 10)
    wait_all_parked()
    with pytest.raises(RuntimeError, match="waits to receive"):
        b.detach_until_readable(print)
    a.sendall(b"x")
    reader.join()
    with pytest.raises(TypeError, match="callable"):
        b.detach_until_readable(3)  # type: ignore[arg-type]


# -- threads --------------------------------------------------------------------------------------


def test_reader_and_writer_of_different_hubs(pair: Pair) -> None:
    a, b = pair()
    data = os.urandom(1000) * (MEGABYTES // 1000)
    got: list[bytes] = []

    def read() -> None:
        try:
            got.append(b.recv_exactly(len(data)))
        finally:
            this_hub().close()

    def write() -> None:
        try:
            b.sendall(data)
        finally:
            this_hub().close()

    threads = [threading.Thread(target=read), threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    sending = spawn(a.sendall, data)
    assert a.recv_exactly(len(data)) == data
    sending.join()
    for thread in threads:
        gp.offload(thread.join)
    assert got == [data]
