"""The laws at the top of greenpump/hub/hub.py, one after another."""

from __future__ import annotations

import gc
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from greenlet import getcurrent, greenlet

import greenpump as gp
from greenpump.hub.hub import SLICE_NS, Hub
from greenpump.hub.local import this_hub
from greenpump.hub.pollable import QUOTA, READ, WRITE, Pollable
from greenpump.hub.task import NOBODY, Task
from greenpump.hub.timers import FAR, Timers
from greenpump.hub.wait import wake
from greenpump.hub.worker import Worker
from greenpump.sys.epoll import Epoll
from greenpump.testing import virtual_clock, wait_all_parked

from .conftest import Program


class Parking:
    """A place where a task waits until a test wakes it."""

    def __init__(self) -> None:
        self.task: Task[Any] | None = None
        self.abandoned = 0

    def park(self, deadline: int = FAR) -> bool:
        hub = this_hub()
        self.task = hub.prepare()
        return hub.wait(self.task, self, deadline)

    def wake(self) -> None:
        task, self.task = self.task, None
        assert task is not None
        wake(task)

    def abandon(self, task: Task[Any]) -> bool:
        self.abandoned += 1
        if self.task is not task:
            return False
        self.task = None
        return True

    def reason(self, task: Task[Any]) -> str:
        return "a parking of the test"


def pollable_pair() -> tuple[socket.socket, socket.socket, Pollable]:
    """A socketpair and the pollable of its left end, which knows there is nothing to read."""
    left, right = socket.socketpair()
    left.setblocking(False)
    pollable = Pollable(left.fileno())
    pollable.readable = 0
    return left, right, pollable


def headroom() -> int:
    """How many calls deeper the caller can go."""

    def descend(n: int) -> int:
        try:
            return descend(n + 1)
        except RecursionError:
            return n

    return descend(0)


# -- 1: the hub runs no user code ------------------------------------------------------------------


def test_law_1_a_task_runs_on_a_worker_wherever_it_was_spawned(hub: Hub) -> None:
    ran_on: dict[str, greenlet] = {}

    def note(origin: str) -> None:
        ran_on[origin] = getcurrent()

    def spawner() -> None:
        gp.spawn(note, "task").join()

    gp.spawn(note, "main").join()
    gp.spawn(spawner).join()
    foreign = greenlet(lambda: gp.spawn(note, "foreign greenlet"))
    foreign.switch()
    thread = threading.Thread(target=gp.spawn_on, args=(hub, note, "thread"))
    thread.start()
    thread.join()
    while len(ran_on) < 4:
        gp.sleep(0.001)
    assert set(ran_on) == {"main", "task", "foreign greenlet", "thread"}
    for glet in ran_on.values():
        assert type(glet) is Worker


def test_law_1_the_excepthook_runs_on_the_failed_task(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def hook(task: Task[Any], error: BaseException) -> None:
        gp.yield_now()  # it may park, as user code may
        seen.append((task, error, type(getcurrent())))

    monkeypatch.setattr(gp, "excepthook", hook)
    error = KeyError("lost")

    def fail() -> None:
        raise error

    task = gp.spawn(fail)
    wait_all_parked()
    assert seen == [(task, error, Worker)]


# -- 2: root gives birth ---------------------------------------------------------------------------


def test_law_2_workers_are_children_of_root(hub: Hub) -> None:
    parents = []

    def nested(n: int) -> None:
        parents.append(getcurrent().parent)
        if n:
            gp.spawn(nested, n - 1).join()

    gp.spawn(nested, 5).join()
    assert parents == [hub.root] * 6


def test_law_2_a_chain_of_spawns_at_the_end_keeps_its_depth(hub: Hub) -> None:
    depths = set()
    left = [100_000]

    def link() -> None:
        left[0] -= 1
        if left[0] % 20_000 == 1:
            depths.add(headroom())
        if left[0]:
            gp.spawn(link)

    gp.spawn(link)
    wait_all_parked()
    assert left == [0]
    assert len(depths) == 1
    assert len(hub.workers) <= 2


def test_law_2_a_chain_of_tasks_started_by_the_park_of_the_last_keeps_its_depth(hub: Hub) -> None:
    depths = set()
    ended = [0]

    def link(n: int) -> None:
        if n % 20_000 == 1:
            depths.add(headroom())
        if n:
            gp.spawn(link, n - 1)
        gp.yield_now()
        ended[0] += 1

    gp.spawn(link, 100_000)
    wait_all_parked()
    assert ended == [100_001]
    assert len(depths) == 1
    assert len(hub.workers) <= 4


def test_law_2_three_thousand_tasks_each_started_from_the_park_of_the_last() -> None:
    depths = set()

    def link(n: int) -> int:
        if n % 1000 == 0:
            depths.add(headroom())
        return 1 + gp.spawn(link, n - 1).result() if n else 0

    assert gp.spawn(link, 3000).result() == 3000
    assert len(depths) == 1


# -- 3: all that can fail comes before the pop ---------------------------------------------------


RECURSION = """
import socket, sys
import greenpump as gp
from greenpump.hub.local import this_hub
from greenpump.hub.pollable import Pollable

hub = this_hub()
operation = sys.argv[1]
left, right = socket.socketpair()
left.setblocking(False)
pollable = Pollable(left.fileno())

def deep(n, f):
    return deep(n - 1, f) if n else f()

def recv():
    right.send(b"x")
    pollable.readable = 0
    pollable.wait_read()
    left.recv(1)

def recv_timeout():
    right.send(b"x")
    pollable.readable = 0
    assert pollable.wait(1, hub.timers.after(5))
    left.recv(1)

def scoped():
    with gp.timeout(5):
        gp.sleep(0.0001)

def join():
    helper = gp.spawn(gp.yield_now)
    helper.join()
    helper = None

operations = dict(
    yield_now=gp.yield_now, sleep=lambda: gp.sleep(0.0001), join=join, recv=recv,
    recv_timeout=recv_timeout, scoped=scoped,
)
op = operations[operation]

def count(counts):
    while not stop:
        counts[0] += 1
        gp.yield_now() if counts[0] % 3 else gp.sleep(0.00001)

sys.setrecursionlimit(260)
outcomes = {}
for depth in range(180, 262):
    outcome = []
    stop = []
    counts = [[0] for _ in range(4)]
    others = [gp.spawn(count, c) for c in counts]
    resumed = []
    def body():
        try:
            deep(depth, op)
            outcome.append("ok")
        except RecursionError:
            outcome.append("recursion")
        resumed.append(1)
        try:
            left.recv(10)
        except BlockingIOError:
            pass
        gp.yield_now()
        before = [c[0] for c in counts]
        for _ in range(5):
            gp.yield_now()
            gp.sleep(0.0002)
        assert all(c[0] > b for c, b in zip(counts, before)), "a task was lost"
        outcome.append("went on")
    task = gp.spawn(body)
    task.join()
    if task.exception() is not None:
        print("depth", depth, outcome, repr(task.exception()))
    stop.append(1)
    for other in others:
        if not other.join(5):
            print("depth", depth, "lost", other)
    if len(resumed) != 1 or hub.ready or hub.current is not hub.main or task._joiners:
        print("depth", depth, resumed, hub.ready, hub.current)
    if pollable.reader or pollable.writer or pollable.crowd:
        print("depth", depth, "still registered", pollable.reader, pollable.crowd)
    for at, _, owner in hub.timers._heap:
        if owner.timer_at == at and owner.deadline != 2**63 - 1:
            print("depth", depth, "timer left", owner)
    outcomes.setdefault(tuple(outcome), []).append(depth)
print(sorted(outcomes))
"""


@pytest.mark.parametrize(
    "operation", ["yield_now", "sleep", "join", "recv", "recv_timeout", "scoped"]
)
def test_law_3_at_every_depth_near_the_limit(program: Program, operation: str) -> None:
    ended = program(RECURSION, operation)
    assert ended.stderr == ""
    assert ended.stdout == "[('ok', 'went on'), ('recursion', 'went on')]\n"


# -- 4: Ctrl-C never lands inside hub code ---------------------------------------------------------


STORM = """
import os, signal, socket, subprocess, sys
import greenpump as gp
from greenpump.hub.local import this_hub
from greenpump.hub.pollable import Pollable

signum = signal.Signals[sys.argv[1]]
handler = sys.argv[2]
hub = this_hub()

class Oops(Exception):
    pass

handled = [0]
acked = [0]
ack_read, ack_write = os.pipe()
def count(signum, frame):
    handled[0] += 1
def oops(signum, frame):
    handled[0] += 1
    raise Oops
if handler == "count":
    signal.signal(signum, count)
elif handler == "raise":
    signal.signal(signum, oops)

ends = [0]
hits = [0]
stop = []
INTERRUPTS = (KeyboardInterrupt, Oops)

def yielder():
    while not stop:
        gp.yield_now()
        seen = handled[0]
        if seen != acked[0]:
            # Interrupted between the two, it is said twice, which does no harm.
            os.write(ack_write, seen.to_bytes(4, "big"))
            acked[0] = seen

def sleeper():
    while not stop:
        gp.sleep(0.0002)

def joiner():
    while not stop:
        gp.spawn(gp.yield_now).join()

def ponger(left, right):
    pollable = Pollable(left.fileno())
    while not stop:
        right.send(b"x")
        pollable.readable = 0
        pollable.wait_read()
        left.recv(100)

def limited():
    while not stop:
        with gp.move_on_after(0.0003):
            gp.sleep(1)

def patient(fn, *args):
    # Interrupts that land in this task's own code are its own business: it goes on.
    while not stop:
        try:
            fn(*args)
        except INTERRUPTS:
            hits[0] += 1
    ends[0] += 1

def robust(fn, *args):
    while True:
        try:
            return patient(fn, *args)
        except INTERRUPTS:
            pass

pairs = [socket.socketpair() for _ in range(5)]
kinds = (yielder, sleeper, joiner, limited)
tasks = [gp.spawn(robust, robust, fn) for fn in kinds for _ in range(40)]
tasks += [gp.spawn(robust, robust, ponger, *pair) for pair in pairs]
for pair in pairs:
    pair[0].setblocking(False)

sender = subprocess.Popen([sys.executable, "-c", '''
import os, sys, time
sys.stdin.readline()
for sent in range(1, 2001 if sys.argv[3] != "raise" else 1001):
    os.kill(int(sys.argv[1]), int(sys.argv[2]))
    time.sleep(0.0004)
    if sys.argv[3] == "raise":  # one at a time: the next when all is well again
        while int.from_bytes(os.read(int(sys.argv[4]), 4) or sys.exit(), "big") < sent:
            pass
''', str(os.getpid()), str(int(signum)), handler, str(ack_read)],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, pass_fds=[ack_read])
os.set_blocking(sender.stdout.fileno(), False)

def storm_is_over():
    # Not poll(): an interrupt in it may leave its lock taken.
    try:
        return os.read(sender.stdout.fileno(), 1) == b""
    except BlockingIOError:
        return False

main_hits = [0]
def wait_for_the_end():
    while not storm_is_over():
        gp.yield_now() if handler == "raise" else gp.sleep(0.001)
    stop.append(1)
    for task in tasks:
        if handler == "raise":
            break  # it may have taken a wake-up along: see interrupt.py
        task.join()

def persist(fn, *args):
    while True:
        try:
            return fn(*args)
        except INTERRUPTS:
            main_hits[0] += 1

def outer():
    # No try covers the loop around it, in which the next one may strike: so there are four.
    persist(persist, persist, persist, wait_for_the_end)

sender.stdin.write(b"go\\n")
sender.stdin.close()
outer()
sender.wait()
if handler == "raise":
    for _ in range(200):  # what was raised in hub code is on its way to main
        try:
            gp.yield_now()
            gp.sleep(0.00001)
        except Oops:
            pass
    left, right = socket.socketpair()
    left.setblocking(False)
    fresh = [gp.spawn(gp.sleep, 0.001), gp.spawn(Pollable(left.fileno()).wait_read)]
    right.send(b"x")
    fresh += [gp.spawn(fresh[0].join), gp.spawn(gp.yield_now)]
    print([task.join(20) for task in fresh], [task.exception() for task in fresh])
    print(hub.root.dead, hub.current is hub.main, handled[0])
    sys.stdout.flush()
    os._exit(0)
lost = [task for task in tasks if not task.done]
failed = [task for task in tasks if task.done and task.exception() is not None]
workers_left = [w.task for w in hub.workers if w.task is not None]
failed = [task for task in failed if not isinstance(task.exception(), INTERRUPTS)]
print("lost", len(lost), "failed", failed, "left", workers_left)
print("signals", hits[0] + main_hits[0] + handled[0] > 20, "main", main_hits[0] > 0)
print("current", hub.current is hub.main)
"""


def test_law_4_a_storm_of_ctrl_c_loses_no_task(program: Program) -> None:
    ended = program(STORM, "SIGINT", "default")
    assert ended.stdout == "lost 0 failed [] left []\nsignals True main True\ncurrent True\n", ended


def test_law_4_a_storm_for_a_handler_of_the_program(program: Program) -> None:
    ended = program(STORM, "SIGUSR1", "count")
    assert ended.stdout == "lost 0 failed [] left []\nsignals True main False\ncurrent True\n", (
        ended
    )


def test_law_4_handlers_that_raise_leave_the_hub_alive(program: Program) -> None:
    # As SIGTERM's that calls sys.exit: one at a time, a thousand times, wherever it lands.
    ended = program(STORM, "SIGUSR1", "raise")
    assert ended.stdout == f"{[True] * 4} {[None] * 4}\nFalse True 1000\n", ended


# -- 5: a wait and its undoing are one construct ------------------------------------------------


def wait_for_read(pollable: Pollable) -> None:
    pollable.wait_read()


def wait_for_read_with_deadline(pollable: Pollable) -> None:
    pollable.wait(READ, this_hub().timers.after(3600))


def wait_for_write(pollable: Pollable) -> None:
    pollable.wait(WRITE)


@pytest.mark.parametrize("wait", [wait_for_read, wait_for_read_with_deadline, wait_for_write])
@pytest.mark.parametrize("place", ["slot", "crowd"])
@pytest.mark.parametrize("end", ["cancel", "timeout"])
def test_law_5_a_wait_for_an_fd_leaves_nothing(
    wait: Callable[[Pollable], None], place: str, end: str, hub: Hub
) -> None:
    left, right, pollable = pollable_pair()
    with left, right, virtual_clock():
        pollable.register(hub)
        wait_all_parked()  # the first edges
        pollable.readable, pollable.writable = 0, False
        before: list[Task[None]] = []
        if place == "crowd":
            before.append(gp.spawn(wait, pollable))

        def limited() -> None:
            with gp.timeout(1):
                wait(pollable)

        task = gp.spawn(wait, pollable) if end == "cancel" else gp.spawn(limited)
        wait_all_parked()
        assert (pollable.reader or pollable.writer) is not None
        assert (pollable.crowd is not None) == (place == "crowd")
        if end == "cancel":
            task.cancel()
            task.join()
            assert task.cancelled
        else:
            assert isinstance(task.exception(), TimeoutError)
        assert pollable.crowd is None
        for other in before:
            assert other.wait is not None
            other.cancel()
            other.join()
        assert pollable.reader is None
        assert pollable.writer is None
        pollable.close()


def test_law_5_a_join_leaves_nothing() -> None:
    with virtual_clock():
        target = gp.spawn(gp.sleep, 3600)
        assert target.join(1) is False
        with gp.move_on_after(1):
            target.join()
        joiner = gp.spawn(target.join)
        wait_all_parked()
        joiner.cancel()
        joiner.join()
        assert target._joiners is None
        target.cancel()
        target.join()


def test_law_5_a_hundred_thousand_cancelled_waits_leak_nothing(hub: Hub) -> None:
    left, right, pollable = pollable_pair()
    parking = Parking()
    with left, right, virtual_clock():
        for _ in range(33_000):
            with gp.move_on_after(1):
                gp.sleep(60)
            with gp.move_on_after(1) as scope:
                scope.cancel()
                gp.sleep(60)
            parking.park(hub.timers.after(1e-6))
        pollable.register(hub)
        for _ in range(1000):  # each takes a millisecond, see greenpump.testing
            pollable.readable = 0
            pollable.wait(READ, hub.timers.after(1e-6))
        assert len(hub.timers._heap) < 1100
        assert pollable.crowd is None
        assert pollable.reader is None
        assert not hub.ready
        assert not hub.inbox
        pollable.close()


# -- 6: an unexpected error breaks the hub loudly ------------------------------------------------


class Bug(Exception):
    pass


@pytest.mark.parametrize(
    ("owner", "method"),
    [(Timers, "expire"), (Epoll, "poll"), (Hub, "deliver"), (Hub, "nothing_came"), (Hub, "chores")],
)
def test_law_6_an_error_in_hub_code_is_raised_in_main(
    owner: type, method: str, monkeypatch: pytest.MonkeyPatch, program: Program
) -> None:
    ended = program(
        f"""
        import greenpump as gp
        from greenpump.hub.hub import Hub, Timers, Epoll
        from greenpump.hub.local import this_hub

        hub = this_hub()
        other = gp.spawn(gp.sleep, 0.02)
        gp.yield_now()
        good = {owner.__name__}.{method}
        def bad(*args):
            setattr({owner.__name__}, "{method}", good)
            return [][1]
        # The scheduler's own code has the bug: it runs in a file of greenpump's.
        bad.__code__ = bad.__code__.replace(co_filename=good.__code__.co_filename)
        setattr({owner.__name__}, "{method}", bad)
        try:
            gp.sleep(5)
        except gp.HubError as error:
            print(type(error.__cause__).__name__, hub.current is hub.main)
        print(other.join(5), gp.spawn(lambda: (gp.sleep(0.001), 7)[1]).result(5))
        """
    )
    assert ended.stderr == ""
    assert ended.stdout == "IndexError True\nTrue 7\n"


# -- 7: always-ready tasks starve nobody -----------------------------------------------------------


@pytest.fixture
def yielders() -> Iterator[list[int]]:
    """Three tasks that are always ready; how many yields they made."""
    yields = [0]
    stop: list[bool] = []

    def endless() -> None:
        while not stop:
            yields[0] += 1
            gp.yield_now()

    tasks = [gp.spawn(endless) for _ in range(3)]
    yield yields
    stop.append(True)
    for task in tasks:
        task.join()


def test_law_7_yielders_do_not_starve_a_timer(hub: Hub, yielders: list[int]) -> None:
    seen = []

    def sleeper() -> None:
        gp.sleep(1e-6)
        seen.append(yielders[0])

    task = gp.spawn(sleeper)
    gp.yield_now()
    select.select([hub.timers.timerfd.fd], [], [])  # from here on the kernel says so
    before = yielders[0]
    while not task.done:
        gp.yield_now()
    assert seen[0] - before <= 2 * QUOTA


def test_law_7_yielders_do_not_starve_a_socket(yielders: list[int]) -> None:
    left, right, pollable = pollable_pair()
    seen = []

    def reader() -> None:
        pollable.wait_read()
        seen.append(yielders[0])

    with left, right:
        task = gp.spawn(reader)
        for _ in range(2 * QUOTA):
            gp.yield_now()
        assert seen == []
        right.send(b"x")
        before = yielders[0]
        while not task.done:
            gp.yield_now()
        assert seen[0] - before <= 2 * QUOTA
        pollable.close()


def test_law_7_yielders_do_not_starve_the_inbox(hub: Hub, yielders: list[int]) -> None:
    seen = []
    thread = threading.Thread(target=hub.post, args=(lambda: seen.append(yielders[0]),))
    gp.yield_now()
    thread.start()
    thread.join()
    before = yielders[0]
    while not seen:
        gp.yield_now()
    assert seen[0] - before <= 2 * QUOTA


def test_law_7_the_longer_yielders_compute_the_sooner_the_kernel_is_polled(hub: Hub) -> None:
    def polls_in(yields: int, nanoseconds: int) -> int:
        before = hub.polls
        for _ in range(yields):
            now[0] += nanoseconds
            gp.yield_now()
        return hub.polls - before

    now = [hub.timers.clock()]
    clock = hub.timers.clock
    hub.timers.use_clock(lambda: now[0], alarm=False)
    try:
        assert polls_in(50 * QUOTA, 0) in (49, 50)  # short ones pay for a poll in 61
        polls_in(QUOTA, SLICE_NS // 2)  # the first that take long are a surprise
        assert 25 <= polls_in(100, SLICE_NS // 2) <= 100  # two to four of them, 10 to 20 ms
        assert polls_in(100, 3 * SLICE_NS) >= 99
        polls_in(2 * QUOTA, 0)
        assert polls_in(50 * QUOTA, 0) in (49, 50)
    finally:
        hub.timers.use_clock(clock, alarm=True)


def test_law_7_tasks_that_spawn_and_end_do_not_starve_a_timer(hub: Hub) -> None:
    # Workers take the next job without a park.
    left, right, pollable = pollable_pair()
    started = [0]
    reader = gp.spawn(pollable.wait_read)

    def next_one() -> None:
        started[0] += 1
        if started[0] == 1000:
            right.send(b"x")
        if not reader.done:
            assert started[0] < 1000 + 3 * QUOTA
            gp.spawn(next_one)

    with left, right:
        gp.spawn(next_one)
        reader.join()
        wait_all_parked()
        assert 1000 <= started[0] < 1000 + 3 * QUOTA
        pollable.close()


# -- 8: asleep for ever is an error ----------------------------------------------------------------


def test_law_8_the_report_shows_every_task_its_wait_and_its_stack(hub: Hub) -> None:
    def stuck_in_a_join(other: Task[Any]) -> None:
        other.join()

    def stuck_in_a_place() -> None:
        Parking().park()

    first = gp.spawn(stuck_in_a_place)
    first.name = "the first one"
    second = gp.spawn(stuck_in_a_join, first)
    with pytest.raises(gp.Deadlock) as caught:
        second.join()
    report = str(caught.value)
    assert report.startswith("all tasks are asleep and nothing can wake them")
    assert "task the first one: a parking of the test for " in report
    assert "join of task the first one" in report
    assert f"task {hub.main.name}: join of task {second.name} for " in report
    assert "other.join()" in report
    assert "Parking().park()" in report
    assert f"spawned at {__file__}:" in report
    assert report.count("second.join()") == 1
    # It is an error like others: the program may go on.
    first.cancel()
    second.join()


def test_law_8_the_report_comes_also_near_the_recursion_limit(program: Program) -> None:
    ended = program(
        """
        import sys
        import greenpump as gp
        def deep(n):
            if n:
                return deep(n - 1)
            gp.spawn(gp.sleep, float("inf")).join()
        sys.setrecursionlimit(200)
        seen = set()
        for depth in range(150, 200):
            try:
                deep(depth)
            except (gp.Deadlock, RecursionError) as error:
                seen.add(type(error).__name__)
        print(sorted(seen))
        """,
        timeout=10,
    )
    assert ended.stdout == "['Deadlock', 'RecursionError']\n", ended.stderr


def fd_may_wake(hub: Hub) -> Callable[[], None]:
    left, right, pollable = pollable_pair()
    task = gp.spawn(pollable.wait_read)

    def free() -> None:
        right.send(b"x")
        task.join()
        pollable.close()
        left.close()
        right.close()

    return free


def timer_may_wake(hub: Hub) -> Callable[[], None]:
    return gp.spawn(gp.sleep, 3600).cancel


def thread_may_wake(hub: Hub) -> Callable[[], None]:
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()

    def free() -> None:
        go.set()
        thread.join()

    return free


def offload_may_wake(hub: Hub) -> Callable[[], None]:
    hub.externals += 1

    def free() -> None:
        hub.externals -= 1

    return free


def signal_handler_may_wake(hub: Hub) -> Callable[[], None]:
    before = signal.signal(signal.SIGUSR1, lambda *args: None)

    def free() -> None:
        signal.signal(signal.SIGUSR1, before)

    return free


@pytest.mark.parametrize(
    "hope",
    [fd_may_wake, timer_may_wake, thread_may_wake, offload_may_wake, signal_handler_may_wake],
)
def test_law_8_no_deadlock_while_something_could_wake_a_task(
    hope: Callable[[Hub], Callable[[], None]], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    parking = Parking()
    looked: list[object] = []
    find = gp.hub.deadlock.find

    def note(hub: Hub) -> object:
        looked.append(find(hub))
        # Whoever sleeps now sleeps until an event: give it one.
        hub.post(parking.wake)
        return looked[-1]

    monkeypatch.setattr(gp.hub.deadlock, "find", note)
    free = hope(hub)
    gp.yield_now()
    hub.idle_ms = 0
    parking.park()
    free()
    assert looked == [None]
    wait_all_parked()


def test_law_8_no_deadlock_while_main_runs(hub: Hub) -> None:
    task = gp.spawn(Parking().park)
    wait_all_parked()
    assert gp.hub.deadlock.find(hub) is None
    task.cancel()
    task.join()


# -- 9: park resumes the greenlet that parked ----------------------------------------------------


def park_by_sleep() -> None:
    gp.sleep(1e-5)


def park_by_yield() -> None:
    gp.yield_now()


def park_by_join() -> None:
    gp.spawn(gp.yield_now).join()


def park_by_recv() -> None:
    left, right = gp.socketpair()
    with left, right:
        gp.spawn(right.send, b"x")
        assert left.recv(1) == b"x"


PARKS = [park_by_sleep, park_by_yield, park_by_join, park_by_recv]


@pytest.fixture
def busy() -> Iterator[None]:
    """Another task is always ready, so that whoever parks is really switched away from."""
    stop: list[bool] = []

    def yielder() -> None:
        while not stop:
            gp.yield_now()

    task = gp.spawn(yielder)
    yield
    stop.append(True)
    task.join()


@pytest.mark.parametrize("park", PARKS)
@pytest.mark.parametrize("where", ["main", "task"])
def test_law_9_a_greenlet_of_the_users_parks(
    park: Callable[[], None], where: str, busy: None
) -> None:
    def outer() -> list[str]:
        log = []

        def inner(n: int) -> None:
            assert gp.current() is task
            park()
            assert getcurrent() is glets[n]
            log.append(f"in {n}")
            if n:
                glets[n - 1].switch(n - 1)
                park()
                assert getcurrent() is glets[n]
            log.append(f"out {n}")

        me = getcurrent()
        task = gp.current()
        glets = [greenlet(inner) for _ in range(3)]
        glets[2].switch(2)
        log.append("back")
        park()
        assert getcurrent() is me
        assert gp.current() is task
        return log

    log = gp.spawn(outer).result() if where == "task" else outer()
    # A greenlet that ends goes on in its parent, the task itself: 1 and 2 stay where they were.
    assert log == ["in 2", "in 1", "in 0", "out 0", "back"]


@pytest.mark.parametrize("park", PARKS)
def test_law_9_the_task_parks_while_its_own_greenlet_is_suspended(
    park: Callable[[], None], busy: None
) -> None:
    log: list[str] = []

    def body() -> None:
        me = getcurrent()

        def helper() -> None:
            park()
            log.append("helper parked once")
            me.switch()
            log.append("helper again")
            park()

        suspended = greenlet(helper)
        suspended.switch()
        for _ in range(3):
            park()  # must not resume the helper, which parked last
        log.append("body")
        suspended.switch()

    gp.spawn(body).result()
    assert log == ["helper parked once", "body", "helper again"]


def test_law_9_a_bridge_as_sqlalchemys_asyncio_has_it(busy: None) -> None:
    # greenlet_spawn: the driver runs in a greenlet and switches out for each thing to be awaited.
    class Bridge(greenlet):
        pass

    def await_only(step: Callable[[], int]) -> int:
        glet = getcurrent()
        assert glet.parent is not None
        result: int = glet.parent.switch(step)
        return result

    def greenlet_spawn(fn: Callable[[], int]) -> int:
        glet = Bridge(fn, getcurrent())
        step = glet.switch()
        while not glet.dead:
            park_by_sleep()
            step = glet.switch(step())
        result: int = step
        return result

    def driver() -> int:
        total = 0
        for n in range(5):
            park_by_yield()
            total += await_only(lambda n=n: n)  # type: ignore[misc]
            park_by_sleep()
        return total

    tasks = [gp.spawn(greenlet_spawn, driver) for _ in range(20)]
    assert [task.result() for task in tasks] == [10] * 20


# -- 10: finalisers and signal handlers run anywhere ---------------------------------------------


class Finalised:
    """Calls a function when it is dropped."""

    def __init__(self, fn: Callable[[], object]) -> None:
        self.fn = fn

    def __del__(self) -> None:
        self.fn()


def in_hub_code(hub: Hub, fn: Callable[[], object]) -> None:
    """Have ``fn`` called by a finaliser while this task runs the scheduler in its park."""
    held: list[Finalised] = [Finalised(fn)]
    parking = Parking()

    def drop() -> bool:
        held.clear()
        parking.wake()
        return True

    hub.autojump, hub.idle_ms = drop, 0
    try:
        parking.park()
    finally:
        hub.autojump = None
    assert not held


@pytest.mark.parametrize("park", PARKS)
def test_law_10_a_finaliser_that_parks_in_hub_code_is_refused(
    park: Callable[[], None], hub: Hub
) -> None:
    said: list[BaseException] = []

    def try_to_park() -> None:
        assert hub.current is NOBODY
        try:
            park()
        except gp.HubError as error:
            said.append(error)

    in_hub_code(hub, try_to_park)
    assert len(said) == 1
    assert "let it spawn a task" in str(said[0])
    wait_all_parked()
    gp.sleep(1e-6)
    assert hub.current is hub.main


def test_law_10_a_finaliser_in_hub_code_may_spawn(hub: Hub) -> None:
    ran: list[int] = []
    in_hub_code(hub, lambda: gp.spawn(ran.append, 1))
    wait_all_parked()
    assert ran == [1]


@pytest.mark.parametrize("what", ["spawn", "wake"])
def test_law_10_what_a_finaliser_readies_just_before_the_hub_sleeps_runs(
    what: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    parking, main_parking = Parking(), Parking()
    ran: list[str] = []

    def wake_main() -> None:
        ran.append(what)
        main_parking.wake()

    def parked() -> None:
        parking.park()
        wake_main()

    if what == "wake":
        gp.spawn(parked)
        wait_all_parked()
    poll = Epoll.poll
    slept: list[int] = []

    def sleeping(self: Epoll, timeout_ms: int) -> list[int]:
        if timeout_ms and not slept:
            slept.append(timeout_ms)
            if what == "spawn":
                gp.spawn(wake_main)
            else:
                parking.wake()
            events = poll(self, 2000)
            assert events, "the hub slept although a task was ready"
            return events
        return poll(self, timeout_ms)

    monkeypatch.setattr(Epoll, "poll", sleeping)
    main_parking.park()
    assert len(slept) == 1
    assert ran == [what]


def test_law_10_a_finaliser_in_user_code_parks_as_the_task_it_interrupted() -> None:
    def body() -> str:
        Finalised(park_by_sleep)  # dropped at once
        return "went on"

    assert gp.spawn(body).result() == "went on"


def test_law_10_the_collector_runs_at_every_park() -> None:
    # Cycles whose finalisers park or spawn, collected wherever the threshold happens to fall.
    outcomes = {"parked": 0, "refused": 0}
    spawned = []

    def finaliser() -> None:
        spawned.append(gp.spawn(int))
        try:
            gp.yield_now()
            outcomes["parked"] += 1
        except gp.HubError:
            outcomes["refused"] += 1

    def churn() -> None:
        for _ in range(100):
            cycle: list[object] = [Finalised(finaliser)]
            cycle.append(cycle)
            gp.sleep(0)
            gp.spawn(int).join()

    threshold = gc.get_threshold()
    gc.set_threshold(7, 2, 2)
    try:
        tasks = [gp.spawn(churn) for _ in range(10)]
        for task in tasks:
            task.result()
        # A collection may still be parked in a task of a finaliser's, and then there is no other.
        while sum(outcomes.values()) < 1000:
            gp.yield_now()
            gc.collect()
    finally:
        gc.set_threshold(*threshold)
    assert outcomes["parked"] + outcomes["refused"] == len(spawned) == 1000
    for task_spawned in spawned:
        assert task_spawned.result() == 0


# -- 11: one switch point --------------------------------------------------------------------------


class BouncingHub(Hub):
    """Every park goes through root, which alone runs the scheduler."""

    __slots__ = ()

    def park(self, task: Task[Any]) -> object | None:
        self.current = NOBODY
        self.quota -= 1
        if self.quota < 0:
            self.poll_now()
        self.root.switch()
        self.current = task
        return task.trouble


@pytest.mark.parametrize("kind", [Hub, BouncingHub])
def test_law_11_the_order_of_events_is_the_same_with_every_park_through_root(
    kind: type[Hub], hub: Hub
) -> None:
    hub.__class__ = kind
    log: list[str] = []

    def chatter(name: str) -> None:
        for n in range(3):
            log.append(f"{name}{n}")
            gp.yield_now()
        gp.sleep(1)
        log.append(f"{name} slept")
        gp.spawn(log.append, f"{name} child").join()

    with virtual_clock():
        tasks = [gp.spawn(chatter, name) for name in "abc"]
        for task in tasks:
            task.join()
    assert log == [
        *(f"{name}{n}" for n in range(3) for name in "abc"),
        *(f"{name} slept" for name in "abc"),
        *(f"{name} child" for name in "abc"),
    ]


@pytest.mark.parametrize("park", PARKS)
def test_law_11_every_kind_of_park_bounces(park: Callable[[], None], hub: Hub) -> None:
    hub.__class__ = BouncingHub
    tasks = [gp.spawn(park) for _ in range(50)]
    for task in tasks:
        task.result()


def test_law_6_no_memory_for_another_greenlet_ends_that_task_only(program: Program) -> None:
    ended = program(
        """
        import greenpump as gp
        from greenpump.hub import hub as module

        good = module.Worker
        def bad(*args):
            raise MemoryError("no room")
        bad.__code__ = bad.__code__.replace(co_filename=module.__file__)
        module.Worker = bad
        task = gp.spawn(print, "never")
        try:
            gp.sleep(5)
        except gp.HubError as error:
            print(repr(error.__cause__))
        module.Worker = good
        print(repr(task.exception()), gp.spawn(lambda: 7).result(5))
        """
    )
    assert ended.stdout.splitlines() == [
        "MemoryError('no room')",
        "MemoryError('no room') 7",
    ], ended
