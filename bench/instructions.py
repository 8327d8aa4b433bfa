"""`python -m bench.instructions`: user instructions per event of an echo, counted by callgrind.

Times on a shared machine vary by a factor; the number of instructions hardly varies at all. So this
is what a change of the hot path is judged by, before its time is. The kernel's share isn't in it,
nor are cache misses.

A process echoes small messages over socket pairs, once few and once many; the difference of the
two counts is what the events cost. Needs valgrind (Debian's package) and takes about a minute.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PAIRS = 50
FEW, MANY = 2_000, 12_000


def child(events: int, read_size: int, message: int, timeout: float | None) -> None:
    """Echo so many messages, then leave at once. Runs under callgrind."""
    import greenpump as gp

    def serve(conn: gp.Socket) -> None:
        conn.settimeout(timeout)
        while data := conn.recv(read_size):
            conn.sendall(data)

    ends = []
    for _ in range(PAIRS):
        ours, theirs = gp.socketpair()
        gp.spawn(serve, ours)
        ends.append(theirs.detach())
    gp.yield_now()
    for fd in ends:
        os.set_blocking(fd, False)
    payload = b"x" * message
    for _ in range(events // PAIRS):
        for fd in ends:
            os.write(fd, payload)
        for fd in ends:
            got = 0
            while got < message:
                try:
                    got += len(os.read(fd, message))
                except BlockingIOError:
                    gp.yield_now()
    os._exit(0)


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
    parser.add_argument("--read-size", type=int, default=16384, help="bytes (default: 16384)")
    parser.add_argument("--message", type=int, default=64, help="bytes (default: 64)")
    parser.add_argument("--timeout", type=float, help="the sockets', in seconds (default: none)")
    parser.add_argument("--child", type=int, metavar="EVENTS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        child(options.child, options.read_size, options.message, options.timeout)
    if shutil.which("valgrind") is None:
        print("missing: valgrind (apt-get install valgrind)", file=sys.stderr)
        return 2
    sizes = ["--read-size", str(options.read_size), "--message", str(options.message)]
    if options.timeout is not None:
        sizes += ["--timeout", str(options.timeout)]
    few, many = (count([str(events), *sizes]) for events in (FEW, MANY))
    print(f"{(many - few) / (MANY - FEW):,.0f} user instructions per echoed message")
    return 0


if __name__ == "__main__":
    sys.exit(main())
