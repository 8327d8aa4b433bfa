"""`python -m bench.counts`: what an echoed message costs, counted: the same figures on every run.

Switches, polls and events from greenlet's and the hub's own counters, bytecodes by `sys.settrace`
one by one, system calls by strace (Debian's package): what the kernel was asked, not what we think
we asked it. tests/bench/test_counts.py holds them to their numbers.

The work: tasks echo over socket pairs, a batch at a time. In each round the client, a task of the
same thread, writes to every connection past greenpump, parks until the last echo is there, and
reads the others, which are there by then. So every poll finds all that is to be found, whatever the
machine does, and a count is `per_batch + per_message * connections` to the last digit: two sizes of
the batch tell the two apart.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass
from types import FrameType
from typing import Any

from bench.outcome import FailedError, MissingError
from bench.process import ROOT
from bench.tables import table

SMALL, LARGE = 10, 30
ROUNDS = 20
WARM_ROUNDS = 5
MESSAGE = b"x" * 64
RECV_SIZE = 16384
PACKAGE = str(ROOT / "greenpump") + os.sep
MEMORY = {"brk", "mmap", "munmap", "mremap", "madvise"}
"""System calls of the allocator: they depend on what was there before."""

Edge = Callable[[], object]


@dataclass(frozen=True)
class Way:
    """How a message is served: by a task for each connection, or by a function called for it."""

    timeout: float | None = None
    """The echoing sockets', in seconds."""
    detached: bool = False

    def arguments(self) -> list[str]:
        """The same for a command line."""
        given = [] if self.timeout is None else ["--timeout", str(self.timeout)]
        return [*given, "--detached"] if self.detached else given


TASKS = Way()


def echo_rounds(connections: int, way: Way, begin: Edge, end: Edge) -> None:
    """`ROUNDS` rounds between `begin()` and `end()`, after some that nobody counts."""
    import greenpump as gp

    def serve(conn: gp.Socket) -> None:
        while data := conn.recv(RECV_SIZE):
            conn.sendall(data)
        conn.close()
        ended.done()

    def answer(conn: gp.Socket) -> None:
        if data := conn.recv(RECV_SIZE):
            conn.sendall(data)
        else:
            conn.close()
            ended.done()

    def batch() -> None:
        for other in others:
            other.send(MESSAGE)
        last.send(MESSAGE)
        if last.recv(RECV_SIZE) != MESSAGE or any(each.recv(99) != MESSAGE for each in others):
            raise FailedError("a wrong echo")

    def main() -> None:
        for _ in range(WARM_ROUNDS):
            batch()
        begin()
        for _ in range(ROUNDS):
            batch()
        end()

    pairs = [gp.socketpair() for _ in range(connections)]
    ended = gp.WaitGroup()
    ended.add(connections)
    for ours, _ in pairs:
        ours.settimeout(way.timeout)
        if way.detached:
            ours.detach_until_readable(answer, persist=True)
        else:
            gp.spawn(serve, ours)
    last = pairs[-1][1]
    others = [socket.socket(fileno=theirs.detach()) for _, theirs in pairs[:-1]]
    for other in others:
        other.setblocking(False)  # a missing echo is an error, not a hang
    try:
        main()
    finally:
        last.close()
        for other in others:
            other.close()
        ended.wait()


# -- in this process: switches, polls, bytecodes -------------------------------------------------


def switches(connections: int, way: Way) -> Counter[str]:
    """How often greenlets were switched between, in all rounds together."""
    import greenlet

    seen: Counter[str] = Counter()

    def note(event: str, _: object) -> None:
        seen[event] += 1

    on, off = lambda: greenlet.settrace(note), lambda: greenlet.settrace(None)
    echo_rounds(connections, way, on, off)
    return Counter({"switches": seen["switch"]})


def polls(connections: int, way: Way) -> Counter[str]:
    """How often the hub asked the kernel for events, and how many it got."""
    import greenpump as gp

    def now() -> Counter[str]:
        hub = next(each for each in gp.stats().hubs if each.thread == gp.hubs()[0].thread.name)
        return Counter({"polls": hub.polls, "events": hub.events})

    seen: Counter[str] = Counter()
    echo_rounds(connections, way, lambda: seen.subtract(now()), lambda: seen.update(now()))
    return seen


class Tracer:
    """Counts the bytecodes of greenpump's functions.

    There is one for all runs: the frame of a worker that was started in the first keeps its trace
    function for life.
    """

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.counting = False

    def trace(self, frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if self.counting and event == "opcode":
            self.seen[frame.f_code.co_qualname] += 1
        return self.trace

    def begin(self) -> None:
        self.seen = Counter()
        self.counting = True

    def end(self) -> None:
        self.counting = False


_tracer = Tracer()


def bytecodes(connections: int, way: Way) -> Counter[str]:
    """The bytecodes executed in each function of greenpump. The echoing handler's are left out."""
    before = sys.gettrace()
    # CPython 3.12 looks when the tracing starts whether any frame wants to see bytecodes.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(_tracer.trace)
    try:
        echo_rounds(connections, way, _tracer.begin, _tracer.end)
    finally:
        sys.settrace(before)
    return _tracer.seen


# -- in a process of its own: system calls ---------------------------------------------------------


def syscalls(connections: int, way: Way) -> Counter[str]:
    """The system calls of all rounds together, by name. Raises MissingError without strace."""
    command = [sys.executable, "-m", "bench.counts", "--child", str(connections)]
    names = traced([*command, *way.arguments()])
    # The child marks the rounds by a call that nothing else makes.
    marks = [place for place, name in enumerate(names) if name == "getppid"]
    if len(marks) != 2:
        raise FailedError(f"{len(marks)} marks in what strace wrote, not 2")
    return Counter(names[marks[0] + 1 : marks[1]])


def traced(command: Iterable[str]) -> list[str]:
    """The names of a program's system calls, in order. It has to end with status 0."""
    with tempfile.NamedTemporaryFile("r", prefix="strace-") as log:
        done = subprocess.run(
            [*strace(log.name), *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise FailedError(f"strace: exit status {done.returncode}", done.stderr)
        return called(log)


def strace(log: str) -> list[str]:
    """The start of a command line that notes the system calls of the rest of it in `log`."""
    program = shutil.which("strace")
    if program is None:
        raise MissingError("strace", "apt-get install strace")
    return [program, "--follow-forks", "--quiet=all", "--signal=none", f"--output={log}"]


def called(log: Iterable[str]) -> list[str]:
    """The calls in strace's output; the second half of one that was interrupted is not another."""
    found = (re.match(r"\d+ +(\w+)\(", line) for line in log)
    return [match[1] for match in found if match]


# -- both sizes of a batch -------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """`per_batch + per_message * connections` a round."""

    per_message: float
    per_batch: float


Count = Callable[[int, Way], Counter[str]]


def costs(count: Count, way: Way = TASKS) -> dict[str, Cost]:
    """What each thing that `count` counts costs, from a small batch and a large one.

    The allocator's system calls are left out.
    """
    small, large = count(SMALL, way), count(LARGE, way)
    found = {}
    for name in sorted((small.keys() | large.keys()) - MEMORY):
        few, many = small[name] / ROUNDS, large[name] / ROUNDS
        per_message = (many - few) / (LARGE - SMALL)
        found[name] = Cost(per_message, few - per_message * SMALL)
    return found


def total(each: dict[str, Cost]) -> Cost:
    """Of them all together."""
    return Cost(
        sum(cost.per_message for cost in each.values()),
        sum(cost.per_batch for cost in each.values()),
    )


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.counts")
    parser.add_argument("--timeout", type=float, help="the sockets', in seconds (default: none)")
    parser.add_argument("--detached", action="store_true", help="by detach_until_readable")
    parser.add_argument("--json", action="store_true", help="[a message, a batch] by name")
    parser.add_argument("--child", type=int, metavar="CONNECTIONS", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    way = Way(args.timeout, args.detached)
    if args.child is not None:
        echo_rounds(args.child, way, os.getppid, os.getppid)
        return 0
    in_functions = costs(bytecodes, way)
    found = costs(switches, way) | costs(polls, way)
    found |= {"bytecodes": total(in_functions)}
    found |= {f"bytecodes in {name}": cost for name, cost in in_functions.items()}
    try:
        of_kernel = costs(syscalls, way)
    except MissingError as error:
        print(f"missing: {error}", file=sys.stderr)
        of_kernel = {}
    found |= {f"system call {name}": cost for name, cost in of_kernel.items()}
    if args.json:
        print(json.dumps({name: astuple(cost) for name, cost in found.items()}))
        return 0
    rows = [[name, f"{cost.per_message:g}", f"{cost.per_batch:g}"] for name, cost in found.items()]
    print(table(["", "a message", "a batch"], rows))
    print(
        "\nThe client's own are among them: it writes and reads each message past greenpump, but "
        "for the batch's last, for which it parks as any task would."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
