"""offload: results, errors, the pool's bounds and order, leaving early, hubs, forks."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest

import greenpump as gp
from greenpump.errors import HubError
from greenpump.hub.local import this_hub
from greenpump.hub.scope import move_on_after
from greenpump.hub.spawning import sleep, spawn, yield_now
from greenpump.hub.threads import hubs, spawn_on
from greenpump.offload import Pool, offload, retire_idle
from greenpump.testing import virtual_clock, wait_all_parked

# The package gives the module's name to the function.
module: Any = sys.modules["greenpump.offload"]


@pytest.fixture(autouse=True)
def idle_threads_end() -> Iterator[None]:
    this_hub()
    yield
    for pool in list(module._pools):
        while pool._running:  # what a test let go on has its leave to end
            os.sched_yield()
    retire_idle()


@contextmanager
def occupied(pool: Pool, threads: int) -> Iterator[threading.Event]:
    """Keep ``threads`` threads of the pool busy until the event is set, or the block ends."""
    gate = threading.Event()
    begun = threading.Semaphore(0)

    def block() -> None:
        begun.release()
        gate.wait()

    tasks = [spawn(pool.call, block) for _ in range(threads)]
    yield_now()
    for _ in tasks:
        assert begun.acquire(timeout=10)
    try:
        yield gate
    finally:
        gate.set()
        for task in tasks:
            task.join()


# -- what a caller gets ----------------------------------------------------------------------------


def test_it_returns_what_the_call_returns() -> None:
    def call(a: int, *, b: int) -> tuple[int, int, int]:
        return a, b, threading.get_ident()

    a, b, thread = offload(call, 1, b=2)
    assert (a, b) == (1, 2)
    assert thread != threading.get_ident()


@pytest.mark.parametrize("kind", [KeyError, OSError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_it_raises_what_the_call_raises_with_its_traceback(kind: type[BaseException]) -> None:
    def fail() -> None:
        raise kind("x")

    with pytest.raises(kind) as caught:
        offload(fail)
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-1] == "fail"
    assert "run" not in names


def test_an_error_leaves_no_reference_cycle() -> None:
    class Marker:
        pass

    def fail(marker: Marker) -> None:
        raise ValueError("x")

    gc.collect()
    gc.disable()
    try:
        marker = Marker()
        seen = weakref.ref(marker)
        try:
            offload(fail, marker)
        except ValueError:
            pass
        del marker
        # Without the GIL, what the pool's thread made is freed by that thread when it next runs.
        for _ in range(10):
            offload(int)
        assert seen() is None
    finally:
        gc.enable()


def test_the_call_sees_a_copy_of_the_callers_context() -> None:
    variable: ContextVar[int] = ContextVar("variable")
    variable.set(1)

    def call() -> int:
        seen = variable.get()
        variable.set(2)
        return seen

    assert offload(call) == 1
    assert variable.get() == 1


def test_what_is_not_callable_is_refused_at_the_caller() -> None:
    with pytest.raises(TypeError, match="offload needs a callable, not 3"):
        offload(3)  # type: ignore[arg-type]


def test_other_tasks_run_meanwhile() -> None:
    gate = threading.Event()
    task = spawn(offload, gate.wait)
    for _ in range(5):
        yield_now()
    assert not task.done
    gate.set()
    assert task.result() is True


def test_a_call_inside_a_call_is_just_a_call() -> None:
    pool = Pool("one", 1)
    outer, inner = pool.call(
        lambda: (threading.get_ident(), pool.call(lambda: threading.get_ident()))
    )
    assert outer == inner != threading.get_ident()


# -- the pool --------------------------------------------------------------------------------------


def test_an_idle_thread_is_used_again() -> None:
    pool = Pool("reuse")
    threads = {pool.call(threading.get_ident) for _ in range(20)}
    assert len(threads) == 1


def test_threads_are_made_on_demand_up_to_the_bound_and_the_rest_queues() -> None:
    pool = Pool("bounded", 3)
    order: list[int] = []
    with occupied(pool, 3) as gate:
        queued = [spawn(pool.call, order.append, n) for n in range(50)]
        yield_now()
        assert (len(pool._running), len(pool._queue), pool._threads) == (3, 50, 3)
        assert "3 calls running, 50 queued, 3 of at most 3 threads" in repr(pool)
        assert "queued: all 3 threads are busy" in queued[0].state()
        gate.set()
        for task in queued:
            task.join()
    assert sorted(order) == list(range(50))
    assert pool._threads == 3


def test_one_thread_keeps_the_order_exactly() -> None:
    pool = Pool("ordered", 1)
    order: list[int] = []
    tasks = [spawn(pool.call, order.append, n) for n in range(100)]
    for task in tasks:
        task.join()
    assert order == list(range(100))


def test_an_idle_thread_ends_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER", 0.001)
    pool = Pool("short-lived")
    thread = pool.call(threading.current_thread)
    thread.join(10)
    assert not thread.is_alive()
    assert pool._threads == 0
    assert pool.call(threading.current_thread) is not thread


def test_a_job_given_just_when_the_thread_would_end_is_run() -> None:
    pool = Pool("raced")
    thread = pool.call(threading.current_thread)
    # As if its patience had run out at the moment another task takes it.
    note = _Note()
    with pool._lock:
        chosen = pool._assign(note)
    assert chosen is thread
    assert not pool._stand_down(thread)
    thread.give(note)
    assert note.ran.wait(10)


class _Note:
    def __init__(self) -> None:
        self.ran = threading.Event()

    def run(self) -> None:
        self.ran.set()

    def ended(self) -> None:
        pass

    def lost(self) -> None:
        raise AssertionError("no fork here")


def test_retire_ends_idle_threads_only() -> None:
    pool = Pool("retiring")
    with occupied(pool, 2):
        thread = pool.call(threading.current_thread)
        pool.retire()
        assert not thread.is_alive()
        assert (pool._threads, len(pool._idle)) == (2, 0)


def test_a_pool_needs_a_thread() -> None:
    with pytest.raises(ValueError, match="at least one thread: max_threads=0"):
        Pool("none", 0)


def test_without_any_thread_the_caller_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = Pool("starved")
    monkeypatch.setattr(module._PoolThread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread") as caught:
        pool.call(int)
    assert "the pool 'starved' has no thread for this call" in caught.value.__notes__
    assert (pool._threads, pool._running, len(pool._queue)) == (0, set(), 0)
    assert this_hub().externals == 0
    monkeypatch.undo()
    assert pool.call(int) == 0


def test_with_some_threads_a_call_waits_for_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool("few", 5)
    with occupied(pool, 1) as gate:

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(module._PoolThread, "start", refuse)
        task = spawn(pool.call, int)
        yield_now()
        assert (pool._threads, len(pool._queue)) == (1, 1)
        gate.set()
        assert task.result() == 0


# -- leaving early ---------------------------------------------------------------------------------


def test_a_deadline_ends_the_wait_and_the_call_goes_on() -> None:
    gate, ended = threading.Event(), threading.Event()

    def call() -> str:
        gate.wait()
        ended.set()
        return "dropped"

    with move_on_after(0.001) as scope:
        offload(call)
    assert scope.expired
    assert this_hub().externals == 0
    assert not ended.is_set()
    gate.set()
    assert ended.wait(10)
    assert offload(int) == 0  # its result met nobody, and harmed nobody


def test_a_cancelled_task_leaves_at_once() -> None:
    gate = threading.Event()
    task = spawn(offload, gate.wait)
    wait_all_parked()
    task.cancel()
    task.join()
    assert task.cancelled
    gate.set()


def test_a_cancelled_queued_call_never_runs() -> None:
    pool = Pool("cancel", 1)
    ran: list[int] = []
    with occupied(pool, 1):
        tasks = [spawn(pool.call, ran.append, n) for n in range(3)]
        yield_now()
        tasks[1].cancel()
        tasks[1].join()
        assert len(pool._queue) == 2
    for task in tasks:
        task.join()
    assert ran == [0, 2]


def test_a_call_in_a_cancelled_scope_is_not_made() -> None:
    ran: list[int] = []
    with move_on_after() as scope:
        scope.cancel()
        offload(ran.append, 1)
    assert scope.expired
    assert ran == []


def test_an_end_that_came_first_beats_the_cancel() -> None:
    pool = Pool("claimed")
    task = spawn(pool.call, int)
    yield_now()  # it is under way
    while pool._running:
        os.sched_yield()  # the thread has claimed the task and posted it; the hub hasn't looked
    task.cancel()
    assert task.result() == 0


def test_the_virtual_clock_waits_for_a_call() -> None:
    gate = threading.Event()
    with virtual_clock() as clock:
        start = clock.now()
        timer = threading.Timer(0.02, gate.set)
        timer.start()
        with move_on_after(100) as scope:
            assert offload(gate.wait) is True
        assert not scope.expired
        assert clock.now() == start
        timer.join()


def test_one_waiting_for_a_call_is_no_deadlock_and_an_idle_thread_is_no_hope() -> None:
    program = """
import threading, greenpump as gp
from greenpump.offload import offload
from greenpump.hub.local import this_hub
gate = threading.Event()
def main():
    hub = this_hub()
    hub.patience = hub.idle_ms = 1
    def late():
        import time; time.sleep(0.05)
    offload(late)
    print("ended")
    hub.wait(hub.prepare(), Never())
class Never:
    def abandon(self, task): return True
    def reason(self, task): return "doomsday"
try:
    gp.run(main)
except gp.Deadlock as error:
    print("deadlock", "doomsday" in str(error))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30
    )
    assert done.stdout.split("\n")[:2] == ["ended", "deadlock True"], done.stderr


# -- threads, hubs, processes ----------------------------------------------------------------------


def test_many_tasks_of_several_hubs_lose_no_wake_up() -> None:
    pool = Pool("shared", 4)

    def caller(base: int) -> int:
        return sum(pool.call(lambda n: n, base + n) for n in range(200))

    def main() -> list[int]:
        tasks = [spawn_on(hub, caller, base) for hub in hubs() for base in range(0, 5000, 500)]
        return [task.result() for task in tasks]

    wanted = [sum(range(base, base + 200)) for base in range(0, 5000, 500)]
    assert gp.run(main, hubs=2) == wanted * 2


def test_ends_and_cancels_race_without_loss() -> None:
    pool = Pool("raced", 2)
    ends = {"value": 0, "cancelled": 0}

    def caller(n: int) -> None:
        with move_on_after(n % 7 * 20e-6) as scope:
            assert pool.call(lambda: n) == n
            ends["value"] += 1
        ends["cancelled"] += scope.expired

    tasks = [spawn(caller, n) for n in range(1500)]
    for task in tasks:
        task.result(30)
    assert ends["value"] + ends["cancelled"] == 1500
    assert this_hub().externals == 0
    assert not pool._queue


def in_child(check: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            check()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_has_fresh_threads() -> None:
    assert offload(int) == 0  # the parent's thread idles: the child doesn't have it

    def check() -> None:
        assert offload(lambda: 7) == 7

    in_child(check)
    assert offload(lambda: 8) == 8


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_call_outstanding_at_the_fork_ends_with_an_error_in_the_child() -> None:
    pool = Pool("forked", 1)
    gate = threading.Event()
    running, queued = spawn(pool.call, gate.wait), spawn(pool.call, int)
    yield_now()

    def check() -> None:
        for task in (running, queued):
            with pytest.raises(HubError, match=r"the process forked while .* was offloaded"):
                task.result(10)
        assert pool.call(lambda: 7) == 7

    in_child(check)
    gate.set()
    assert running.result() is True
    assert queued.result() == 0


def test_a_call_that_never_returns_does_not_keep_the_program() -> None:
    program = """
import threading
from greenpump.offload import offload
from greenpump.hub.scope import move_on_after
with move_on_after(0.01):
    offload(threading.Event().wait)
print("main ends")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (0, "main ends\n"), done.stderr


def test_sleep_is_not_disturbed() -> None:
    """A dropped result wakes nobody: the task that left sleeps on."""
    gate = threading.Event()
    with virtual_clock() as clock:
        with clock.held():
            scope = move_on_after()
            with scope:
                spawn(scope.cancel)
                offload(gate.wait)
        gate.set()
        start = clock.now()
        sleep(5)
        assert clock.now() == pytest.approx(start + 5)
