"""Tasks that park in Python which C code calls: an iterator under ``list``, a sort's key, makefile.

Without the GIL such C code holds the lock of its object meanwhile, in a chain that belongs to the
thread; a greenlet older than 3.5.3 doesn't change that chain with the task, and the process aborts.
So each program runs in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from greenpump.hub.local import FREE_THREADED

PREAMBLE = """
import csv, functools, json, re
import greenpump as gp

def values(n):
    for each in range(n):
        gp.yield_now()
        yield each

def waits(value):
    gp.yield_now()
    return value

def as_a_list():
    assert list(values(5)) == [0, 1, 2, 3, 4]

def as_a_set_and_a_dict():
    assert set(values(5)) == {0, 1, 2, 3, 4}
    found = {-1: 0}
    found.update((each, each) for each in values(5))
    assert len(found) == 6

def extending():
    found = [0]
    found.extend(values(3))
    found += values(3)
    assert found == [0, 0, 1, 2, 0, 1, 2]

def sorting():
    assert sorted([3, 1, 2], key=waits) == [1, 2, 3]
    found = [3, 1, 2]
    found.sort(key=waits)
    assert found == [1, 2, 3]

def by_callbacks():
    assert re.sub("b", lambda match: waits("x"), "abab") == "axax"
    assert functools.reduce(lambda a, b: waits(a + b), values(4)) == 6
    assert list(map(waits, values(3))) == [0, 1, 2]
    assert json.dumps([object()], default=lambda each: waits(1)) == "[1]"

def a_channel():
    channel = gp.Channel()
    def send():
        for each in values(5):
            channel.send(each)
        channel.close()
    gp.spawn(send)
    assert list(channel) == [0, 1, 2, 3, 4]

def files_of_makefile():
    a, b = gp.socketpair()
    with a, b, a.makefile("rb") as near, b.makefile("rwb") as far:
        def echo():
            while line := far.readline():
                far.write(line)
                far.flush()
        echoing = gp.spawn(echo)
        for number in range(5):
            a.sendall(b"%d\\n" % number)
            assert near.readline() == b"%d\\n" % number
        a.sendall(b"x,y\\n")
        a.shutdown(1)
        echoing.join()
        b.shutdown(1)
        assert next(csv.reader(line.decode() for line in near)) == ["x", "y"]

def main():
    with gp.Group() as group:
        for number in range(30):
            group.spawn_on(gp.hubs()[number % 2], globals()[NAME])

gp.run(main, hubs=2)
"""

NAMES = [
    "as_a_list",
    "as_a_set_and_a_dict",
    "extending",
    "sorting",
    "by_callbacks",
    "a_channel",
    "files_of_makefile",
]


@pytest.mark.skipif(
    FREE_THREADED and version("greenlet").startswith(("3.4.", "3.5.0", "3.5.1", "3.5.2")),
    reason="this greenlet aborts the process there; `make test-freethreaded` installs 3.5.3",
)
@pytest.mark.parametrize("name", NAMES)
def test_tasks_may_park_there(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "error", "-c", f"NAME = {name!r}\n{PREAMBLE}"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (done.returncode, done.stderr) == (0, "")
