"""wc(1), with every file counted by a task of its own.

    python -m examples.files README.md LICENSE
    ls -l | python -m examples.files

A regular file is read in threads, a pipe, a FIFO or a terminal by epoll; the tasks don't see a
difference, and nothing else in the program waits for a slow one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import NamedTuple

import greenpump as gp
from greenpump.files.opening import from_fd, open


class Count(NamedTuple):
    """What wc says of a file."""

    lines: int = 0
    words: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        return f"{self.lines:8}{self.words:8}{self.bytes:10}"


def count(file: Iterable[bytes]) -> Count:
    """Count what a binary file has."""
    lines = words = size = 0
    for line in file:
        lines += line.endswith(b"\n")
        words += len(line.split())
        size += len(line)
    return Count(lines, words, size)


def count_file(path: str) -> Count:
    """Count a file that is opened for it."""
    with open(path, "rb") as file:
        return count(file)


def main(paths: list[str]) -> int:
    """Print the counts of ``paths``, or of standard input; the exit status."""
    if not paths:
        with from_fd(0, "rb", closefd=False) as stdin:
            print(count(stdin))
        return 0
    status = 0
    total = Count()
    tasks = [(path, gp.spawn(count_file, path)) for path in paths]
    for path, task in tasks:
        try:
            found = task.result()
        except OSError as error:
            print(f"{path}: {error.strerror}", file=sys.stderr)
            status = 1
        else:
            print(found, path)
            total = Count(*map(sum, zip(total, found, strict=True)))
    if len(paths) > 1:
        print(total, "total")
    return status


if __name__ == "__main__":
    sys.exit(gp.run(main, sys.argv[1:]))
