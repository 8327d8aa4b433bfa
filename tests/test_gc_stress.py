"""The garbage collector strikes while tasks switch, at every allocation and from another thread.

Frames of parked tasks lie on greenlets' stacks, which the collector must see; on free-threaded
CPython 3.13 and 3.14 it doesn't see the deferred references of suspended frames, so what a task
runs must be held elsewhere. It also runs finalisers in the middle of the scheduler (law 10).
A fault here is mostly a crash of the process, so the programs run in processes of their own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PREAMBLE = """
import gc, sys, threading, time, weakref
import greenpump as gp

class Node:
    '''Garbage that only the collector frees, with a finaliser that uses the scheduler.'''
    freed = 0
    event = gp.Event()
    def __init__(self):
        self.me = self
    def __del__(self):
        Node.freed += 1
        Node.event.set()
        Node.event.clear()

def fresh_function():
    '''A function that nobody else refers to: the task alone keeps it and its closure.'''
    cell = Node()
    def body(channel, count):
        total = 0
        for _ in range(count):
            Node()
            total += channel.recv() + (cell.me is cell)
        return total
    return body

def work(rounds, tasks=8, count=20):
    for _ in range(rounds):
        channel = gp.Channel(2)
        with gp.Group() as group:
            takers = [group.spawn(fresh_function(), channel, count) for _ in range(tasks)]
            for _ in range(tasks):
                group.spawn(lambda: [channel.send(1) for _ in range(count)])
            with gp.move_on_after(0.0005):
                gp.select(gp.receiving(gp.Channel()), Node.event, group.spawn(gp.sleep, 0.001))
        assert [task.result() for task in takers] == [2 * count] * tasks
        for task in [gp.spawn(gp.sleep, 100) for _ in range(3)]:
            task.cancel()
            task.join()

def collector(stop):
    while not stop.is_set():
        gc.collect()
        # Without the GIL each stops the others, who may be too slow to go on before the next.
        time.sleep(1e-4)
"""

AT_EVERY_ALLOCATION = """
gc.set_threshold(1, 1, 1)
work(12)
gc.collect()  # free-threaded CPython lets a young heap grow first, whatever the threshold
"""

IN_THE_SCHEDULER = """
calls = 0
def strike(frame, event, arg):
    global calls
    calls += 1
    if calls % 20 == 0 and "/hub/" in frame.f_code.co_filename:
        gc.collect(0)

def traced():
    sys.setprofile(strike)
    try:
        work(3)
    finally:
        sys.setprofile(None)

traced()
assert calls > 3000, calls
"""

FROM_A_THREAD = """
sys.setswitchinterval(1e-5)
stop = threading.Event()
thread = threading.Thread(target=collector, args=(stop,))
thread.start()
try:
    work(40)
finally:
    stop.set()
    thread.join()
"""

WITH_FOUR_HUBS = """
sys.setswitchinterval(1e-5)
def one(who):
    work(8)

def main():
    tasks = [gp.spawn_on(hub, one, who) for who, hub in enumerate(gp.hubs())]
    channel = gp.Channel(1)
    def send(count):
        for _ in range(count):
            channel.send(Node())
    def receive(count):
        for _ in range(count):
            assert channel.recv().me is not None
    pairs = [gp.spawn_on(hub, fn, 300) for hub in gp.hubs() for fn in (send, receive)]
    while not all(task.done for task in tasks + pairs):
        gc.collect()
        gp.sleep(0.0005)
    for task in tasks + pairs:
        task.result()

gp.run(main, hubs=4)
"""

GENERATORS_AND_ERRORS = """
gc.set_threshold(1, 1, 1)
gp.excepthook = lambda task, error: None  # each is looked at below, some later than it comes

def deep(n):
    Node()
    if n:
        yield from deep(n - 1)
    gp.yield_now()
    yield n

def failing(n):
    try:
        for value in deep(n):
            Node()
        raise ValueError(n)
    except ValueError as error:
        gp.yield_now()
        raise KeyError(n) from error

for _ in range(20):
    tasks = [gp.spawn(failing, n) for n in range(6)]
    for _ in range(4):
        gp.yield_now()
        gc.collect()  # while they stand in the middle of it; see AT_EVERY_ALLOCATION
    for n, task in enumerate(tasks):
        error = task.exception()
        assert isinstance(error, KeyError) and error.__cause__.args == (n,)
    del tasks, task, error
"""

NOTHING_IS_KEPT = """
channel = gp.Channel()
def hold(node):
    channel.recv()
nodes = [Node() for _ in range(200)]
seen = [weakref.ref(node) for node in nodes]
tasks = [gp.spawn(hold, node) for node in nodes]
del nodes
gp.yield_now()
gc.collect()
assert all(ref() is not None for ref in seen), "a parked task's argument was freed"
for _ in tasks:
    channel.send(None)
for task in tasks:
    task.join()
del tasks, task
gp.yield_now()
gc.collect()
left = sum(ref() is not None for ref in seen)
assert left == 0, left
"""

PROGRAMS = {
    "at every allocation": AT_EVERY_ALLOCATION,
    "in the scheduler": IN_THE_SCHEDULER,
    "from a thread": FROM_A_THREAD,
    "with four hubs": WITH_FOUR_HUBS,
    "generators and errors": GENERATORS_AND_ERRORS,
}


def run(program: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", PREAMBLE + program],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("name", PROGRAMS)
def test_tasks_go_on_while_it_collects(name: str) -> None:
    run(PROGRAMS[name] + "\nassert Node.freed > 100, Node.freed\n")


def test_what_a_parked_task_holds_is_kept_and_nothing_longer() -> None:
    run(NOTHING_IS_KEPT)
