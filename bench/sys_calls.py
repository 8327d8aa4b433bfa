"""What greenpump.sys costs a call, beside the same call of the standard library.

    python -m bench.sys_calls

Prints a ratio for each line: the first over the second, below 1 when the first is faster. Every
figure is the best of many short rounds, and the two take turns, so that a busy machine slows both.
It takes some seconds and one core. The figures decide what docs/sys.md says was chosen and why.
"""

from __future__ import annotations

import ctypes
import os
import platform
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from greenpump.sys.epoll import EPOLLIN, Epoll
from greenpump.sys.eventfd import Eventfd
from greenpump.sys.libc import quick
from greenpump.sys.timerfd import Timerfd

Round = Callable[[], float]  # runs once and returns its seconds a call

_FAR_NS = 1 << 62


def best_of(rounds: dict[str, Round], times: int = 60) -> dict[str, float]:
    best = dict.fromkeys(rounds, float("inf"))
    for _ in range(times):
        for name, run in rounds.items():
            best[name] = min(best[name], run())
    return best


def compare(what: str, ours: Round, theirs: Round, times: int = 60) -> None:
    best = best_of({"ours": ours, "theirs": theirs}, times)
    a, b = best["ours"] * 1e6, best["theirs"] * 1e6
    print(f"{what:<64} {a:8.3f} {b:8.3f}   {a / b:5.2f}", flush=True)


def calls(one: Callable[[int], object], argument: int, count: int = 2000) -> Round:
    """A round of *count* calls with one argument; the loop's own cost is in both sides."""

    def run() -> float:
        repeat = range(count)
        start = time.perf_counter()
        for _ in repeat:
            one(argument)
        return (time.perf_counter() - start) / count

    return run


def raw_wait(library: ctypes.CDLL, fd: int, declared: bool) -> Round:
    """A round of epoll_wait(0) as ctypes does it, without any Python around it."""
    wait = library["epoll_wait"]
    if declared:
        wait.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int)
    buffer = ctypes.byref(ctypes.create_string_buffer(16 * 16))

    def run() -> float:
        repeat = range(2000)
        start = time.perf_counter()
        for _ in repeat:
            wait(fd, buffer, 16, 0)
        return (time.perf_counter() - start) / 2000

    return run


def ways_to_call() -> None:
    with Epoll() as epoll:
        kept = ctypes.CDLL(None, use_errno=True)
        held = ctypes.PyDLL(None, use_errno=True)
        plain = raw_wait(ctypes.CDLL(None), epoll.fd, False)
        compare("errno kept / not kept", raw_wait(kept, epoll.fd, False), plain)
        compare(
            "GIL held / released",
            raw_wait(held, epoll.fd, False),
            raw_wait(kept, epoll.fd, False),
        )
        compare(
            "argtypes declared / not declared",
            raw_wait(held, epoll.fd, True),
            raw_wait(held, epoll.fd, False),
        )


def polls() -> None:
    for ready in (0, 1, 100):
        with ExitStack() as stack:
            ours, theirs = stack.enter_context(Epoll()), stack.enter_context(select.epoll())
            for _ in range(ready):
                fd = stack.enter_context(Eventfd(1)).fd
                ours.add(fd, EPOLLIN)
                theirs.register(fd, EPOLLIN)
            label = f"Epoll.poll(0) / select.epoll.poll(0), {ready} ready"
            count = 2000 if ready < 10 else 200
            compare(label, calls(ours.poll, 0, count), calls(theirs.poll, 0, count))
            if ready:  # with nothing ready, it would sleep
                label = f"Epoll.poll(1) / select.epoll.poll(1), {ready} ready"
                compare(label, calls(ours.poll, 1, count), calls(theirs.poll, 1, count))


def changes() -> None:
    with Epoll() as ours, select.epoll() as theirs, Eventfd() as event:
        ours.add(event.fd, EPOLLIN)
        theirs.register(event.fd, EPOLLIN)
        compare(
            "Epoll.modify / select.epoll.modify",
            calls(lambda events: ours.modify(event.fd, events), EPOLLIN),
            calls(lambda events: theirs.modify(event.fd, events), EPOLLIN),
        )
        compare(
            "Eventfd.write / os.eventfd_write",
            calls(lambda value: event.write(), 1),
            calls(lambda value: os.eventfd_write(event.fd, value), 1),
        )
    settime = getattr(os, "timerfd_settime_ns", None)
    if settime is not None:  # from 3.13 on
        with Timerfd() as timer:
            compare(
                "Timerfd.arm / os.timerfd_settime_ns",
                calls(timer.arm, _FAR_NS),
                calls(lambda ns: settime(timer.fd, flags=1, initial=ns), _FAR_NS),
            )


@contextmanager
def knocking(count: int) -> Iterator[Callable[[], socket.socket]]:
    """A listener, and a function that returns it with *count* connections waiting."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=count))
        clients: list[socket.socket] = []

        def again() -> socket.socket:
            while clients:
                clients.pop().close()
            for _ in range(count):
                clients.append(socket.create_connection(listener.getsockname()))
            return listener

        try:
            yield again
        finally:
            while clients:
                clients.pop().close()


def accepts() -> None:
    """accept4 through ctypes against socket.accept, both up to a socket that doesn't block."""
    count = 100
    accept4 = quick("accept4")
    flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

    def stdlib(listener: socket.socket) -> socket.socket:
        connection, _peer = listener.accept()
        connection.setblocking(False)
        return connection

    def raw(listener: socket.socket) -> socket.socket:
        fd = accept4(listener.fileno(), None, None, flags)
        connection = socket.socket(listener.family, listener.type, listener.proto, fd)
        connection.setblocking(False)  # the object doesn't know yet
        return connection

    def raw_with_peer(listener: socket.socket) -> socket.socket:
        connection = raw(listener)
        connection.getpeername()
        return connection

    with knocking(count) as knock:

        def round_of(accept: Callable[[socket.socket], socket.socket]) -> Round:
            def run() -> float:
                listener = knock()
                repeat = range(count)
                accepted: list[socket.socket] = []
                start = time.perf_counter()
                for _ in repeat:
                    accepted.append(accept(listener))
                elapsed = time.perf_counter() - start
                for connection in accepted:
                    connection.close()
                return elapsed / count

            return run

        compare("accept4 / socket.accept, with peer", round_of(raw_with_peer), round_of(stdlib), 40)
        compare("accept4 without peer / socket.accept", round_of(raw), round_of(stdlib), 40)


def main() -> None:
    print(f"CPython {platform.python_version()} on {platform.machine()}")
    print(f"{'':<64} {'µs':>8} {'µs':>8}   ratio")
    ways_to_call()
    polls()
    changes()
    accepts()


if __name__ == "__main__":
    main()
