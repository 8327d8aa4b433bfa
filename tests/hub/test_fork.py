"""After os.fork the child's hub works, and the parent's doesn't notice."""

from __future__ import annotations

import pytest

from .conftest import Program

PRELUDE = """
import os, socket, sys, threading, warnings
import greenpump as gp
from greenpump.hub.local import hubs, this_hub
from greenpump.hub.pollable import Pollable

# 3.12 and later say so of every fork beside a thread, which is what is tried here.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

def in_child(fn):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            fn()
            sys.stdout.flush()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("where", ["main", "task"])
def test_timers_tasks_and_sockets_go_on_in_both(where: str, program: Program) -> None:
    ended = program(
        PRELUDE
        + f"""
left, right = socket.socketpair()
left.setblocking(False)
pollable = Pollable(left.fileno())
pollable.readable = 0
log = []
def reader():
    pollable.wait_read()
    log.append(left.recv(10))
task = gp.spawn(reader)
sleeper = gp.spawn(gp.sleep, 0.01)
gp.yield_now()
def child():
    # What was parked in the parent is parked here as well, and wakes.
    right.send(b"child")
    task.join()
    sleeper.join()
    print("child", log, gp.spawn(int).result(), this_hub().current.name)
def body():
    in_child(child)
    right.send(b"parent")
    task.join()
    sleeper.join()
    print("parent", log, gp.spawn(int).result())
body() if {where!r} == "main" else gp.spawn(body).result()
"""
    )
    assert ended.stderr == ""
    name = "main of MainThread" if where == "main" else "body#"
    child, parent = ended.stdout.splitlines()
    assert child.startswith(f"child [b'child'] 0 {name}")
    assert parent == "parent [b'parent'] 0"


def test_the_child_shares_no_kernel_object_with_the_parent(program: Program) -> None:
    ended = program(
        PRELUDE
        + """
hub = this_hub()
gp.sleep(0.001)
def inodes():
    return {os.stat(fd).st_ino for fd in (hub.interrupts.fds() if hub.interrupts else [])}
before = inodes()
def child():
    gp.sleep(0.001)
    print(inodes().isdisjoint(before), len(hub.wakeups), hub.interrupts is not None)
    hub.close()
    print(len(os.listdir("/proc/self/fd")))
in_child(child)
gp.sleep(0.001)
hub.close()
print(len(os.listdir("/proc/self/fd")))
"""
    )
    assert ended.stderr == ""
    first, child_fds, parent_fds = ended.stdout.splitlines()
    assert first == "True 3 True"
    assert child_fds == parent_fds


def test_hubs_of_other_threads_are_gone_in_the_child(program: Program) -> None:
    ended = program(
        PRELUDE
        + """
up, go = threading.Event(), threading.Event()
def other():
    gp.sleep(0.001)
    up.set()
    go.wait()
    gp.sleep(0.001)
    print("the other thread goes on")
    this_hub().close()
thread = threading.Thread(target=other)
thread.start()
up.wait()
gp.sleep(0.001)
def child():
    print(len(hubs), hubs[0] is this_hub())
    gp.sleep(0.001)
in_child(child)
print(len(hubs))
go.set()
thread.join()
"""
    )
    assert ended.stderr == ""
    assert ended.stdout == "1 True\n2\nthe other thread goes on\n"


def test_a_child_without_a_hub_makes_its_own(program: Program) -> None:
    ended = program(
        PRELUDE
        + """
in_child(lambda: print(gp.spawn(gp.sleep, 0.001).join(5)))
print(gp.spawn(int).result())
"""
    )
    assert ended.stderr == ""
    assert ended.stdout == "True\n0\n"


@pytest.mark.parametrize("where", ["main", "task"])
def test_a_child_may_leave_the_hub_that_it_inherited(where: str, program: Program) -> None:
    ended = program(
        PRELUDE
        + f"""
from greenpump.hub.fork import leave_hub
sleeper = gp.spawn(gp.sleep, 3600)
gp.yield_now()
def child():
    inherited = this_hub()
    leave_hub()
    own = this_hub()
    gp.sleep(1e-6)
    print(own is inherited, own.closed, gp.spawn(int).result(), gp.current() is own.main)
    print(list(own.live_tasks()), hubs == [own])
def body():
    in_child(child)
    print(gp.spawn(int).result(), sleeper.done)
body() if {where!r} == "main" else gp.spawn(body).result()
sleeper.cancel()
"""
    )
    assert ended.stderr == ""
    assert ended.stdout == "False False 0 True\n[] True\n0 False\n"


def test_a_thread_other_than_main_forks(program: Program) -> None:
    ended = program(
        PRELUDE
        + """
gp.sleep(0.001)
def body():
    gp.sleep(0.001)
    in_child(lambda: print(gp.spawn(gp.sleep, 0.001).join(5), this_hub().thread.name))
    gp.sleep(0.001)
    this_hub().close()
thread = threading.Thread(target=body, name="forker")
thread.start()
thread.join()
print("parent")
"""
    )
    assert ended.stderr == ""
    assert ended.stdout == "True forker\nparent\n"
