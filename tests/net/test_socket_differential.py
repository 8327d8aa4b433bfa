"""The same script against socket.socket in threads and Socket in tasks: same results, same errors.

A script is a function of a World, which makes sockets and runs functions side by side; it returns
what it saw. Errors are compared by type and errno.
"""

from __future__ import annotations

import array
import os
import socket
import struct
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from greenpump.hub.spawning import spawn
from greenpump.net.socket import Socket

LOCAL = "127.0.0.1"
MEGABYTES = 10_000_000


def outcome(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a call returned, or the type and errno of what it raised."""
    try:
        value = call(*args, **kwargs)
    except Exception as error:
        return type(error), getattr(error, "errno", None)
    return value if not isinstance(value, memoryview) else bytes(value)


class World:
    """socket.socket in threads."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.serial = 0

    def kind(self) -> type[socket.socket]:
        return socket.socket

    def start(self, fn: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        """Run ``fn`` on the side; returns what joins it and gives its outcome."""
        result: list[Any] = []
        thread = threading.Thread(target=lambda: result.append(outcome(fn, *args)), daemon=True)
        thread.start()

        def join() -> Any:
            thread.join(20)
            assert not thread.is_alive()
            return result[0]

        return join

    def make(self, *args: Any, **kwargs: Any) -> socket.socket:
        return self.stack.enter_context(self.kind()(*args, **kwargs))

    def keep(self, sock: socket.socket) -> socket.socket:
        return self.stack.enter_context(sock)

    def pair(self, kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
        a, b = socket.socketpair(socket.AF_UNIX, kind)
        return (
            self.make(socket.AF_UNIX, kind, 0, a.detach()),
            self.make(socket.AF_UNIX, kind, 0, b.detach()),
        )

    def tcp(self) -> tuple[socket.socket, socket.socket]:
        """Two ends of a TCP connection."""
        with self.kind()() as listener:
            listener.bind((LOCAL, 0))
            listener.listen()
            client = self.make()
            client.connect(listener.getsockname())
            return client, self.keep(listener.accept()[0])

    def udp(self) -> socket.socket:
        sock = self.make(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((LOCAL, 0))
        return sock

    def name(self) -> str:
        """The name of an abstract unix socket."""
        self.serial += 1
        return f"\0greenpump-{os.getpid()}-{id(self)}-{self.serial}"

    def folder(self) -> str:
        return self.stack.enter_context(tempfile.TemporaryDirectory())


class TaskWorld(World):
    """Socket in tasks."""

    def kind(self) -> type[socket.socket]:
        return Socket

    def start(self, fn: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        return spawn(outcome, fn, *args).result


Script = Callable[[World], Any]
scripts: list[Script] = []


def script(fn: Script) -> Script:
    scripts.append(fn)
    return fn


def recv_all(sock: socket.socket, size: int = 65536) -> int:
    """How many bytes come until the end."""
    total = 0
    while data := sock.recv(size):
        total += len(data)
    return total


def fill(sock: socket.socket) -> None:
    """Send until the kernel takes no more."""
    sock.setblocking(False)
    for size in (65536, 1024, 1):
        while not isinstance(outcome(sock.send, bytes(size)), tuple):
            pass
    sock.setblocking(True)


# -- streams -------------------------------------------------------------------------------------


@script
def tcp_echo(world: World) -> Any:
    a, b = world.tcp()

    def echo() -> None:
        while data := b.recv(16384):
            b.sendall(data)
        b.shutdown(socket.SHUT_WR)

    done = world.start(echo)
    seen = []
    for size in (1, 64, 16384):
        a.sendall(bytes(size))
        seen.append(len(a.recv(size, socket.MSG_WAITALL)))
    a.shutdown(socket.SHUT_WR)
    return [*seen, a.recv(10), a.recv(10), done()]


@script
def half_close(world: World) -> Any:
    a, b = world.tcp()
    a.sendall(b"question")
    a.shutdown(socket.SHUT_WR)
    seen = [b.recv(100), b.recv(100), outcome(a.send, b"x")]
    b.sendall(b"answer")
    b.close()
    return [*seen, a.recv(100), a.recv(100), a.recv(100)]


@script
def half_close_of_the_reading_side(world: World) -> Any:
    a, b = world.pair()
    waiting = world.start(a.recv, 10)
    a.shutdown(socket.SHUT_RD)
    return [waiting(), a.recv(10), outcome(b.send, b"x")]


@script
def transfer_through_tiny_buffers(world: World) -> Any:
    a, b = world.pair()
    a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
    data = os.urandom(1000) * (MEGABYTES // 1000)

    def send() -> None:
        a.sendall(data)
        a.close()

    sent = world.start(send)
    got = bytearray()
    while piece := b.recv(65536):
        got += piece
    return [got == data, sent()]


@script
def transfer_both_ways_at_once(world: World) -> Any:
    a, b = world.pair()

    def send(sock: socket.socket) -> None:
        sock.sendall(bytes(MEGABYTES // 4))
        sock.shutdown(socket.SHUT_WR)

    joins = [world.start(send, a), world.start(send, b)]
    joins += [world.start(recv_all, a), world.start(recv_all, b, 1000)]
    return [join() for join in joins]


@script
def sendall_takes_every_buffer(world: World) -> Any:
    a, b = world.pair()
    for data in (b"ab", bytearray(b"cd"), memoryview(b"ef"), array.array("I", [1, 2]), b""):
        a.sendall(data)
    seen = [outcome(a.sendall, memoryview(b"abcd")[::2]), outcome(a.send, b"")]
    wide = array.array("Q", range(200_000))
    done = world.start(a.sendall, wide)
    head = b.recv(14, socket.MSG_WAITALL)
    body = b.recv(len(wide) * 8, socket.MSG_WAITALL)
    return [*seen, head, body == wide.tobytes(), done()]


@script
def reset_in_the_middle_of_a_write(world: World) -> Any:
    a, b = world.tcp()
    writing = world.start(a.sendall, bytes(MEGABYTES * 3))
    b.recv(100_000)
    b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    b.close()
    return [writing(), outcome(a.send, b"x"), outcome(a.recv, 1)]


@script
def reset_while_reading(world: World) -> Any:
    a, b = world.tcp()
    reading = world.start(a.recv, 10)
    b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    b.close()
    return [reading(), outcome(a.recv, 1)]


@script
def receive_flags(world: World) -> Any:
    a, b = world.tcp()
    seen = [outcome(a.recv, 10, socket.MSG_DONTWAIT), outcome(a.recv, 10, socket.MSG_OOB)]
    peeking = world.start(a.recv, 10, socket.MSG_PEEK)
    b.sendall(b"hello")
    seen += [peeking(), a.recv(3, socket.MSG_PEEK), a.recv(2), a.recv(10, socket.MSG_PEEK)]
    seen.append(a.recv(10))
    all_of_it = world.start(a.recv, 6, socket.MSG_WAITALL)
    b.sendall(b"abc")
    b.sendall(b"defg")
    seen += [all_of_it(), a.recv(10)]
    cut = world.start(a.recv, 6, socket.MSG_WAITALL)
    b.sendall(b"abc")
    b.close()
    return [*seen, cut(), a.recv(1, socket.MSG_WAITALL), a.recv(1)]


@script
def wait_for_all_in_every_call(world: World) -> Any:
    a, b = world.tcp()
    all_of_it = socket.MSG_WAITALL
    room = bytearray(4)
    calls: list[tuple[Any, ...]] = [
        (a.recvfrom, 4, all_of_it),
        (a.recvmsg, 4, 0, all_of_it),
        (a.recv_into, room, 0, all_of_it),
        (a.recv_into, room, 3, all_of_it),
    ]
    seen = []
    for call, *args in calls:
        join = world.start(call, *args)
        b.sendall(b"ab")
        b.sendall(b"cd")
        seen += [join(), bytes(room)]
    return [*seen, a.recv(10)]


@script
def nothing_asked_for(world: World) -> Any:
    a, b = world.pair()
    empty = bytearray()
    seen = [a.recv(0), outcome(a.recv_into, empty)]
    b.sendall(b"x")
    return [*seen, a.recv(0), a.recv_into(empty), a.recv(1), a.recv(0)]


@script
def out_of_band(world: World) -> Any:
    a, b = world.tcp()
    a.send(b"x", socket.MSG_OOB)
    while isinstance(got := outcome(b.recv, 1, socket.MSG_OOB), tuple):
        pass
    return [got, outcome(b.recv, 1, socket.MSG_OOB)]


@script
def receive_into(world: World) -> Any:
    a, b = world.pair()
    room = bytearray(8)
    waiting = world.start(a.recv_into, room)
    b.sendall(b"hello")
    seen = [waiting(), bytes(room)]
    b.sendall(b"world")
    seen += [a.recv_into(room, 2), a.recv_into(memoryview(room)[4:]), bytes(room)]
    b.close()
    return [*seen, a.recv_into(room)]


# -- connections ---------------------------------------------------------------------------------


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind((LOCAL, 0))
        port: int = sock.getsockname()[1]
        return port


@script
def connecting(world: World) -> Any:
    dead = (LOCAL, unused_port())
    a = world.make()
    seen = [outcome(a.connect, dead), a.connect_ex(dead)]
    with world.kind()() as listener:
        listener.bind((LOCAL, 0))
        listener.listen()
        there = listener.getsockname()
        seen += [outcome(a.connect, there), outcome(a.connect, there), a.connect_ex(there)]
        conn, peer = listener.accept()
        seen += [peer == a.getsockname(), conn.gettimeout(), type(conn) is world.kind()]
        conn.close()
    return [*seen, outcome(world.make(socket.AF_UNIX).connect, "/nowhere/at/all")]


@script
def a_text_of_every_error(world: World) -> Any:
    texts = []
    for call in (
        lambda: world.make().connect((LOCAL, unused_port())),
        lambda: world.make(socket.AF_UNIX).connect("/nowhere/at/all"),
        lambda: world.make().recv(1),
        lambda: world.make().send(b"x"),
        lambda: world.make().accept(),
        lambda: world.make().connect((LOCAL, 70000)),
        lambda: world.make().connect(("1.2.3.4", "http")),
        lambda: world.make().connect("x"),
        lambda: world.make().connect(()),
        lambda: world.make().recv(-1),
        lambda: world.make().recv("x"),  # type: ignore[arg-type]
        lambda: world.make().settimeout(-1),
        lambda: world.make().settimeout("x"),  # type: ignore[arg-type]
        lambda: world.make().settimeout(float("nan")),
        lambda: world.make().__reduce_ex__(2),
    ):
        try:
            call()
        except Exception as error:
            texts.append(str(error).replace(world.kind().__name__, "socket"))
    return texts


@script
def non_blocking_mode(world: World) -> Any:
    listener = world.make()
    listener.bind((LOCAL, 0))
    listener.listen()
    listener.setblocking(False)
    seen: list[Any] = [outcome(listener.accept), listener.gettimeout(), listener.getblocking()]
    a = world.make(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    seen += [a.gettimeout(), a.type, outcome(a.connect, listener.getsockname())]
    listener.setblocking(True)
    b = world.keep(listener.accept()[0])
    seen += [outcome(a.recv, 1), outcome(a.recv, 4, socket.MSG_WAITALL)]
    seen += [outcome(a.recv_into, bytearray(1)), outcome(a.recvfrom, 1), outcome(a.recvmsg, 1)]
    while not isinstance(stuck := outcome(a.send, bytes(65536)), tuple):
        pass
    while not isinstance(outcome(a.send, b"x"), tuple):
        pass
    seen += [stuck, outcome(a.sendall, b"x"), outcome(a.sendmsg, [b"x"])]
    with tempfile.TemporaryFile() as file:
        file.write(b"x")
        seen.append(outcome(a.sendfile, file))
    seen.append(len(b.recv(10)))
    a.setblocking(True)
    return [*seen, a.gettimeout(), a.timeout]


@script
def several_accept(world: World) -> Any:
    listener = world.make()
    listener.bind((LOCAL, 0))
    listener.listen()

    def serve() -> Any:
        conn, _ = listener.accept()
        with conn:
            conn.sendall(b"hi")
        return "served"

    joins = [world.start(serve) for _ in range(5)]
    clients = [world.make() for _ in range(5)]
    for client in clients:
        client.connect(listener.getsockname())
    return [[client.recv(10) for client in clients], [join() for join in joins]]


@script
def names(world: World) -> Any:
    listener = world.make()
    listener.bind(("", 0))
    listener.listen()
    port = listener.getsockname()[1]
    seen = []
    for host in ("127.0.0.1", b"127.0.0.1", bytearray(b"127.0.0.1"), "127.1", ""):
        seen.append(outcome(world.make().connect, (host, port)))
    for address in ((None, port), ("a\0b", port), (LOCAL,), (LOCAL, -1), ("\ud800", 1), [LOCAL, 1]):
        seen.append(outcome(world.make().connect, address)[0])
    six = world.make(socket.AF_INET6)
    return [*seen, outcome(six.connect, ("::1", unused_port(), 0, 0, 0))]


@script
def bound_to_a_busy_address(world: World) -> Any:
    a = world.make()
    a.bind((LOCAL, 0))
    a.listen()
    return [outcome(world.make().bind, a.getsockname()), outcome(a.bind, (LOCAL, 0))]


# -- datagrams -----------------------------------------------------------------------------------


@script
def udp(world: World) -> Any:
    a, b = world.udp(), world.udp()
    waiting = world.start(b.recvfrom, 100)
    sent = a.sendto(b"one", b.getsockname())
    first = waiting()
    seen = [sent, first[0], first[1] == a.getsockname()]
    for data in (b"two", b"", b"four"):
        a.sendto(data, 0, b.getsockname())
    room = bytearray(3)
    seen += [b.recv(2), b.recvfrom(10)[0], b.recvfrom_into(room)[0], bytes(room)]
    a.connect(b.getsockname())
    a.sendall(b"")
    seen += [b.recv(10), a.send(b"x" * 1000), b.recvmsg(10)[:3], outcome(a.send, bytes(70000))]
    return seen


@script
def udp_to_nobody(world: World) -> Any:
    a = world.udp()
    a.connect((LOCAL, unused_port()))
    a.send(b"x")
    return [outcome(a.recv, 10), outcome(a.send, b"y") == 1, outcome(a.recv, 10)]


@script
def udp_goes_on_after_an_error(world: World) -> Any:
    a, b = world.udp(), world.udp()
    with world.kind()(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind((LOCAL, 0))
        nobody = gone.getsockname()
    a.connect(nobody)
    a.send(b"x")
    refused = outcome(a.recv, 1)
    a.connect(b.getsockname())
    waiting = world.start(a.recv, 10)
    b.sendto(b"y", a.getsockname())
    return [refused, waiting()]


@script
def wrong_sendto(world: World) -> Any:
    a = world.udp()
    there = a.getsockname()
    return [
        outcome(a.sendto, b"x"),
        outcome(a.sendto, b"x", 0, there, 1),
        outcome(a.sendto, "x", there),
        outcome(a.sendto, b"x", "0", there),
        outcome(a.sendto, b"x", 0, None),
        outcome(a.sendto, b"x", "nonsense"),
        outcome(a.sendmsg, [b"x"]),
        outcome(a.sendmsg, 1),
        outcome(a.sendmsg, ["x"]),
        outcome(a.sendmsg, [b"x"], [1], 0, there),
        outcome(a.recvmsg_into, [b"x"]),
        outcome(a.recvmsg_into, 1),
        outcome(a.recvmsg, -1),
        outcome(a.recvmsg, 1, -1),
        outcome(a.recvfrom, -1),
        outcome(a.recvfrom, 1.5),
        outcome(a.recvfrom_into, b"x"),
        outcome(a.recvfrom_into, bytearray(1), 2),
        outcome(a.recv_into, bytearray(1), 2),
        outcome(a.recv_into, bytearray(1), -1),
        outcome(a.recv_into, "x"),
    ]


@script
def unix_datagrams(world: World) -> Any:
    a = world.make(socket.AF_UNIX, socket.SOCK_DGRAM)
    b = world.make(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = os.path.join(world.folder(), "b")
    abstract = world.name()
    a.bind(abstract)
    b.bind(path)
    waiting = world.start(b.recvfrom, 100)
    a.sendto(b"hello", path)
    data, address = waiting()
    seen = [data, address == abstract.encode()]
    b.sendto(b"back", abstract)
    return [*seen, a.recvfrom(100)[0], outcome(a.sendto, b"x", path + "-none")]


@script
def a_full_queue_of_unix_datagrams(world: World) -> Any:
    b = world.make(socket.AF_UNIX, socket.SOCK_DGRAM)
    name = world.name()
    b.bind(name)
    filler = world.make(socket.AF_UNIX, socket.SOCK_DGRAM)
    while not isinstance(outcome(filler.sendto, b"x", socket.MSG_DONTWAIT, name), tuple):
        pass
    a = world.make(socket.AF_UNIX, socket.SOCK_DGRAM)
    sending = world.start(a.sendto, b"last", name)
    c = world.make(socket.AF_UNIX, socket.SOCK_DGRAM)
    c.connect(name)
    connected = world.start(c.send, b"last")
    last = 0
    while last < 2:
        last += b.recv(10) == b"last"
    return [sending(), connected()]


@script
def packets_in_sequence(world: World) -> Any:
    a, b = world.pair(socket.SOCK_SEQPACKET)
    waiting = world.start(b.recv, 100)
    a.sendall(b"first")
    seen = [waiting()]
    for data in (b"second", b"third", b"4"):
        a.send(data)
    seen += [b.recv(3), b.recv(100), b.recv(100)]
    fill(a)
    stuck = world.start(a.sendall, b"after all the others")
    got = b""
    while got != b"after all the others":
        got = b.recv(100000)
    a.close()
    return [*seen, stuck(), b.recv(1)]


# -- ancillary data ------------------------------------------------------------------------------


@script
def fds_are_passed(world: World) -> Any:
    a, b = world.pair()
    reading, writing = os.pipe()
    waiting = world.start(socket.recv_fds, b, 100, 2)
    socket.send_fds(a, [b"take", b" it"], [writing])
    a.sendall(b"and this")
    os.close(writing)
    data, fds, _, _ = waiting()
    # The kernel ends a read at a message with fds: what follows is there without a further edge.
    rest = b.recv(100)
    os.write(fds[0], b"through")
    os.close(fds[0])
    piped = os.read(reading, 100)
    os.close(reading)
    return [data, len(fds), rest, piped]


@script
def messages_of_several_buffers(world: World) -> Any:
    a, b = world.pair()
    parts: list[Any] = [b"abc", bytearray(b"def")]
    seen: list[Any] = [a.sendmsg(iter(parts)), a.sendmsg([])]
    rooms = [bytearray(2), bytearray(10)]
    seen += [b.recvmsg_into(iter(rooms))[:3], rooms]
    fill(a)
    sending = world.start(a.sendmsg, iter([b"late ", b"data"]))
    got = b""
    while not got.endswith(b"late data"):
        got = got[-10:] + b.recv(65536)
    return [*seen, sending()]


# -- time limits ---------------------------------------------------------------------------------


@script
def timeouts(world: World) -> Any:
    a, b = world.pair()
    a.settimeout(0.01)
    room = bytearray(1)
    seen = [
        outcome(a.recv, 1),
        outcome(a.recv_into, room),
        outcome(a.recvfrom, 1),
        outcome(a.recvfrom_into, room),
        outcome(a.recvmsg, 1),
        outcome(a.recvmsg_into, [room]),
        outcome(a.recv, 1, socket.MSG_PEEK),
        outcome(a.sendall, bytes(MEGABYTES)),
        outcome(a.send, b"x" * 200_000),
        outcome(a.sendmsg, [b"x" * 200_000]),
    ]
    listener = world.make()
    listener.bind((LOCAL, 0))
    listener.listen()
    listener.settimeout(0.01)
    seen.append(outcome(listener.accept))
    b.sendall(b"x")
    return [*seen, a.recv(1), a.gettimeout(), b.gettimeout()]


@script
def a_unix_backlog_that_is_full(world: World) -> Any:
    listener = world.make(socket.AF_UNIX)
    name = world.name()
    listener.bind(name)
    listener.listen(0)
    first = world.make(socket.AF_UNIX)
    first.connect(name)
    hasty = world.make(socket.AF_UNIX)
    hasty.setblocking(False)
    seen = [outcome(hasty.connect, name), hasty.connect_ex(name)]
    patient = world.make(socket.AF_UNIX)
    connecting = world.start(patient.connect, name)
    world.keep(listener.accept()[0])
    seen.append(connecting())
    world.keep(listener.accept()[0])
    return seen


@script
def wrong_timeouts(world: World) -> Any:
    a = world.make()
    seen = []
    values: list[Any] = [5, 0, 1.5, None, True, -1, "1", float("inf"), float("nan"), 1e300, b"", []]
    for value in values:
        seen += [outcome(a.settimeout, value), a.gettimeout()]
    a.close()
    return [*seen, outcome(a.settimeout, 1), outcome(a.setblocking, True)]


@script
def the_default_timeout(world: World) -> Any:
    socket.setdefaulttimeout(0.02)
    try:
        a = world.make()
        return [a.gettimeout(), a.timeout, outcome(world.udp().recv, 1)]
    finally:
        socket.setdefaulttimeout(None)


# -- lifetime ------------------------------------------------------------------------------------


@script
def a_closed_socket(world: World) -> Any:
    a, b = world.pair()
    b.sendall(b"x")
    a.recv(1)
    a.close()
    a.close()
    room = bytearray(1)
    calls: list[tuple[Any, ...]] = [
        (a.recv, 1),
        (a.recv, 0),
        (a.recv, 1, socket.MSG_PEEK),
        (a.recv_into, room),
        (a.recvfrom, 1),
        (a.recvfrom_into, room),
        (a.recvmsg, 1),
        (a.recvmsg_into, [room]),
        (a.send, b"x"),
        (a.send, b""),
        (a.sendall, b"x"),
        (a.sendall, b""),
        (a.sendto, b"x", "y"),
        (a.sendmsg, [b"x"]),
        (a.accept,),
        (a.connect, "x"),
        (a.connect_ex, "x"),
        (a.bind, "x"),
        (a.listen,),
        (a.shutdown, socket.SHUT_RD),
        (a.getsockname,),
        (a.getpeername,),
        (a.dup,),
        (a.fileno,),
        (a.detach,),
        (a.gettimeout,),
        (a.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR),
    ]
    return [outcome(call, *args) for call, *args in calls]


@script
def wrong_arguments(world: World) -> Any:
    a, b = world.pair()
    b.sendall(b"left")
    calls: list[tuple[Any, ...]] = [
        (a.recv,),
        (a.recv, "1"),
        (a.recv, 1.5),
        (a.recv, None),
        (a.recv, -1),
        (a.recv, 1 << 70),
        (a.recv, 1, "x"),
        (a.recv, 1, 0, 0),
        (a.send,),
        (a.send, "x"),
        (a.send, None),
        (a.send, b"x", "0"),
        (a.sendall, "x"),
        (a.sendall, 5),
        (a.sendall, b"x", "0"),
        (a.bind, 5),
        (a.shutdown, 99),
        (a.sendfile, None),
        (a.makefile, "x"),
        (a.setsockopt, 1, 2, "x"),
    ]
    seen = [outcome(call, *args) for call, *args in calls]
    return [*seen, a.recv(10)]


@script
def a_number_that_is_no_int(world: World) -> Any:
    class Four:
        def __index__(self) -> int:
            return 4

    a, b = world.pair()
    b.sendall(b"hello")
    four: Any = Four()
    return [a.recv(four), a.recv(True)]


@script
def wrong_fds(world: World) -> Any:
    reading, writing = os.pipe()
    os.close(writing)
    kind = world.kind()
    seen = [outcome(kind, 2, 1, 0, fd) for fd in (writing, reading, -1, "x", 1 << 40)]
    os.close(reading)
    return [*seen, outcome(kind, 999), outcome(kind, 2, 999), outcome(kind, "x")]


@script
def dup_and_detach(world: World) -> Any:
    a, b = world.pair()
    a.settimeout(3)
    twin = world.keep(a.dup())
    seen: list[Any] = [type(twin) is world.kind(), twin.gettimeout(), twin.get_inheritable()]
    a.close()
    twin.sendall(b"still here")
    seen.append(b.recv(100))
    fd = b.detach()
    seen += [b.fileno(), outcome(b.recv, 1), os.get_blocking(fd)]
    os.close(fd)
    return seen


@script
def files(world: World) -> Any:
    a, b = world.pair()
    with a.makefile("rwb") as one, b.makefile("rw", newline="\n") as two:
        reading = world.start(one.readline)
        two.write("hello\nworld\n")
        two.flush()
        seen: list[Any] = [reading(), one.readline()]
        one.write(b"x" * 10)
        one.flush()
        seen.append(two.read(10))
        a.close()
        seen.append(a.fileno() >= 0)
        one.write(b"more\n")
        one.flush()
        seen.append(two.readline())
    return [*seen, a.fileno(), b.fileno() >= 0]


@script
def a_file_that_timed_out(world: World) -> Any:
    a, b = world.pair()
    a.settimeout(0.01)
    with a.makefile("rb") as file:
        seen = [outcome(file.read, 1)]
        b.sendall(b"x")
        return [*seen, outcome(file.read, 1)]


@script
def sending_files(world: World) -> Any:
    a, b = world.tcp()
    data = os.urandom(1000) * 3000
    seen: list[Any] = []
    with tempfile.TemporaryFile() as file:
        seen.append(outcome(a.sendfile, file))
        file.write(data)
        file.flush()
        got = bytearray()

        def receive(size: int) -> None:
            while len(got) < size:
                got.extend(b.recv(65536))

        for offset, count in ((0, None), (1000, 5), (2_999_000, 5000), (4_000_000, None)):
            size = len(data[offset:][:count])
            receiving = world.start(receive, size)
            seen += [a.sendfile(file, offset, count), receiving(), file.tell()]
            seen.append(got == data[offset:][:count])
            got.clear()
        for wrong in (0, -1, "x"):
            seen.append(outcome(a.sendfile, file, 0, wrong))
    with open("/proc/self/comm", "rb") as odd, open(os.devnull) as text:
        seen += [outcome(a.sendfile, odd), outcome(a.sendfile, text)]
        seen.append(outcome(world.udp().sendfile, odd))
    return seen


@script
def attributes(world: World) -> Any:
    a = world.make(socket.AF_INET6, socket.SOCK_DGRAM)
    a.set_inheritable(True)
    seen = [a.family, a.type, a.proto, a.get_inheritable(), bool(a), hasattr(a, "__dict__")]
    with a as same:
        seen.append(same is a)
    return [*seen, a.fileno(), "[closed]" in repr(a)]


@pytest.mark.parametrize("fn", scripts, ids=lambda fn: fn.__name__)
def test_the_same_as_the_stdlib(fn: Script) -> None:
    seen = []
    for world in (World(), TaskWorld()):
        with world.stack:
            seen.append(fn(world))
    assert seen[1] == seen[0]
