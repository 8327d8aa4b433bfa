"""`python -m bench.instructions`: user instructions per echo, datagram or connection, by callgrind.

Times on a shared machine vary by a factor; the number of instructions hardly varies at all. So this
is what a change of the hot path is judged by, before its time is. The kernel's share isn't in it,
nor are cache misses.

A process serves itself, once a few times and once many; the difference of the two counts is what
one event costs, its client's share (which goes past greenpump) included. Needs valgrind (Debian's
package) and takes about a minute.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import greenpump as gp

BATCH = 50
FEW, MANY = 2_000, 12_000


def echo(events: int, options: argparse.Namespace) -> None:
    """Messages over socket pairs that stay open."""

    def serve(conn: gp.Socket) -> None:
        conn.settimeout(options.timeout)
        while data := conn.recv(options.read_size):
            conn.sendall(data)

    exchange(serve, events, options)


def detached(events: int, options: argparse.Namespace) -> None:
    """The same, by a function that is called for each message."""

    def serve(conn: gp.Socket) -> None:
        conn.sendall(conn.recv(options.read_size))

    def begin(conn: gp.Socket) -> None:
        conn.settimeout(options.timeout)
        conn.detach_until_readable(serve, persist=True)

    exchange(begin, events, options)


def exchange(serve: Callable[[gp.Socket], None], events: int, options: argparse.Namespace) -> None:
    """Messages to who serves, past greenpump, and the answers to them."""
    import greenpump as gp

    ends = []
    for _ in range(BATCH):
        ours, theirs = gp.socketpair()
        gp.spawn(serve, ours)
        ends.append(theirs.detach())
    gp.yield_now()
    for fd in ends:
        os.set_blocking(fd, False)
    payload = b"x" * options.message
    for _ in range(events // BATCH):
        for fd in ends:
            os.write(fd, payload)
        for fd in ends:
            await_bytes(partial(os.read, fd), options.message)


def udp(events: int, options: argparse.Namespace) -> None:
    """Datagrams to one socket from many."""
    import greenpump as gp

    def serve(sock: gp.Socket) -> None:
        sock.settimeout(options.timeout)
        while True:
            data, peer = sock.recvfrom(options.read_size)
            sock.sendto(data, peer)

    server = gp.Socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    gp.spawn(serve, server)
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(BATCH)]
    for client in clients:
        client.connect(server.getsockname())
        client.setblocking(False)
    gp.yield_now()
    payload = b"x" * options.message
    for _ in range(events // BATCH):
        for client in clients:
            client.send(payload)
        for client in clients:
            await_bytes(partial(os.read, client.fileno()), options.message)


def accept(events: int, options: argparse.Namespace) -> None:
    """Connections of one request each; the client closes when it has its answer."""
    import greenpump as gp

    def serve(conn: gp.Socket, peer: object) -> None:
        conn.settimeout(options.timeout)
        while data := conn.recv(options.read_size):
            conn.sendall(data)

    listener = gp.listen(("127.0.0.1", 0))
    address = listener.getsockname()
    gp.spawn(gp.serve, serve, listener)
    gp.yield_now()
    payload = b"x" * options.message
    for _ in range(events // BATCH):
        clients = [socket.socket() for _ in range(BATCH)]
        for client in clients:
            client.connect(address)
            client.send(payload)
        for client in clients:
            client.setblocking(False)
            await_bytes(client.recv, options.message)
            client.close()


def await_bytes(read: Callable[[int], bytes], size: int) -> None:
    """Read so many bytes, and let the server's tasks run as long as they aren't there."""
    import greenpump as gp

    while size:
        try:
            size -= len(read(size))
        except BlockingIOError:
            gp.yield_now()


WORK = {"echo": echo, "detached": detached, "udp": udp, "accept": accept}


def count(arguments: list[str]) -> int:
    """Instructions of one run under callgrind."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        command += [sys.executable, "-m", "bench.instructions", "--child", *arguments]
        # A fixed seed: the order of sets and dicts changes the count a little.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        root = Path(__file__).parent.parent
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, check=False
        )
    return collected(done.stderr)


def collected(report: str) -> int:
    """The total that callgrind reports."""
    found = re.search(r"Collected : (\d+)", report)
    if found is None:
        raise RuntimeError(f"callgrind did not report a count:\n{report[-2000:]}")
    return int(found[1])


def main() -> int:
    """Parse the command line, run both, print the difference."""
    parser = argparse.ArgumentParser(prog="python -m bench.instructions")
    parser.add_argument("work", choices=WORK, nargs="?", default="echo", help="(default: echo)")
    parser.add_argument("--read-size", type=int, default=16384, help="bytes (default: 16384)")
    parser.add_argument("--message", type=int, default=64, help="bytes (default: 64)")
    parser.add_argument("--timeout", type=float, help="the sockets', in seconds (default: none)")
    parser.add_argument("--child", type=int, metavar="EVENTS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        from greenpump.hub import hub

        hub.SLICE_NS = sys.maxsize  # a tracer slows everything down: polls are not to come sooner
        WORK[options.work](options.child, options)
        os._exit(0)  # at once: what the interpreter's end costs depends on all that is loaded
    if shutil.which("valgrind") is None:
        print("missing: valgrind (apt-get install valgrind)", file=sys.stderr)
        return 2
    few, many = (count([str(events), *sys.argv[1:]]) for events in (FEW, MANY))
    print(f"{(many - few) / (MANY - FEW):,.0f} user instructions per event of {options.work}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
