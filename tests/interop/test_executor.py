"""TaskExecutor: as the stdlib's executors, differentially; and what only tasks can do."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import math
import os
import select
import signal
import subprocess
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub import threads
from greenpump.hub.hub import Hub
from greenpump.interop.executor import TaskExecutor
from greenpump.testing import wait_all_parked

from .conftest import OtherHub

LONG = 30.0
Program = Callable[[str], subprocess.CompletedProcess[str]]
InThread = Callable[[Callable[[], object]], Any]


class Boom(Exception):
    pass


def fail(error: BaseException) -> None:
    raise error


def nap(value: object = None) -> object:
    gp.sleep(0.0001)
    return value


class Stuck:
    """A call that waits for good, and what became of it."""

    def __init__(self, then: Callable[[], Any] | None = None) -> None:
        self.began = threading.Event()
        self.ended = threading.Event()
        self.go = gp.Event()
        self._then = then

    def __call__(self) -> Any:
        self.began.set()
        try:
            self.go.wait()
        except gp.Cancelled:
            if self._then is None:
                raise
            return self._then()
        finally:
            self.ended.set()


@pytest.fixture
def executor() -> Iterator[TaskExecutor]:
    with TaskExecutor() as executor:
        yield executor


def take(results: Iterator[Any]) -> list[Any]:
    """What ``list`` does, which on free-threaded builds must not wait for a task."""
    found = []
    for result in results:
        found.append(result)
    return found


# -- as the stdlib's -------------------------------------------------------------------------------


def use_submit(executor: Executor) -> object:
    future = executor.submit(pow, 2, exp=10)
    return future.result(LONG), future.done(), future.cancelled(), future.exception()


def use_map(executor: Executor) -> object:
    return take(executor.map(pow, range(50), [3] * 50, timeout=LONG))


def use_map_of_nothing(executor: Executor) -> object:
    return take(executor.map(pow, [], []))


def use_map_that_fails(executor: Executor) -> object:
    found = []
    try:
        for value in executor.map(lambda n: 10 // n, [5, 2, 0, 1]):
            found.append(value)
    except ZeroDivisionError:
        found.append(-1)
    return found


def use_errors(executor: Executor) -> object:
    found: list[object] = []
    for kind in (KeyError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration):
        future = executor.submit(fail, kind("x"))
        found.append((type(future.exception(LONG)), future.done()))
        try:
            future.result()
        except BaseException as error:
            found.append(repr(error))
    return found


def use_callbacks(executor: Executor) -> object:
    found: list[object] = []
    called = threading.Event()

    def note(future: Future[int]) -> None:
        found.append((future.result(), future.done()))
        called.set()

    executor.submit(int, 5).add_done_callback(note)
    called.wait(LONG)
    future = executor.submit(int, 6)
    future.result()
    future.add_done_callback(note)  # at once, here
    return found


def use_wait(executor: Executor) -> object:
    futures = [executor.submit(int, n) for n in range(20)]
    done, pending = concurrent.futures.wait(futures, LONG)
    two: list[Future[Any]] = [executor.submit(int), executor.submit(fail, Boom())]
    first = concurrent.futures.wait(two, LONG, concurrent.futures.FIRST_EXCEPTION)
    return len(done), len(pending), any(f.exception() for f in first.done)


def use_as_completed(executor: Executor) -> object:
    futures = [executor.submit(int, n) for n in range(20)]
    return sorted(future.result() for future in concurrent.futures.as_completed(futures, LONG))


def use_after_shutdown(executor: Executor) -> object:
    future = executor.submit(int, 1)
    executor.shutdown()
    executor.shutdown(wait=False)
    found: list[object] = [future.done(), future.result()]
    try:
        executor.submit(int)
    except RuntimeError as error:
        found.append(str(error))
    return found


def use_shutdown_of_nothing(executor: Executor) -> object:
    executor.shutdown(wait=False)
    executor.shutdown()
    return "shut down"


def use_nonsense(executor: Executor) -> object:
    found: list[object] = []
    future = executor.submit(int, "x")
    found.append(type(future.exception(LONG)))
    try:
        executor.submit()  # type: ignore[call-arg]
    except TypeError:
        found.append("no function")
    return found


def use_cancelled_ends(executor: Executor) -> object:
    future = executor.submit(int, 1)
    future.result()
    return future.cancel(), future.cancelled(), future.running()


def use_asyncio(executor: Executor) -> object:
    async def main() -> object:
        loop = asyncio.get_running_loop()
        found: list[object] = list(
            await asyncio.gather(*[loop.run_in_executor(executor, int, n) for n in range(20)])
        )
        try:
            await loop.run_in_executor(executor, fail, Boom("x"))
        except Boom as error:
            found.append(repr(error))
        return found

    return asyncio.run(main())


USES = [value for name, value in sorted(globals().items()) if name.startswith("use_")]


@pytest.mark.parametrize("where", ["own thread", "limit", "another hub"])
@pytest.mark.parametrize("use", USES)
def test_it_does_as_the_stdlibs(
    use: Callable[[Executor], object], where: str, other: OtherHub, in_thread: InThread
) -> None:
    with ThreadPoolExecutor(3) as threads:
        expected = use(threads)
    hub = other.hub if where == "another hub" else None
    with TaskExecutor(2 if where == "limit" else None, hub=hub) as executor:
        assert in_thread(lambda: use(executor)) == expected  # from a thread without a hub
    if use not in (use_wait, use_as_completed, use_callbacks, use_asyncio):
        with TaskExecutor(2 if where == "limit" else None, hub=hub) as executor:
            assert gp.spawn(use, executor).result(LONG) == expected  # and in a task


# -- tasks ---------------------------------------------------------------------------------------


def test_thousands_of_calls_wait_at_once(executor: TaskExecutor) -> None:
    meeting = gp.Event()
    arrived: list[int] = []

    def meet(n: int) -> int:
        arrived.append(n)
        if len(arrived) == 5000:
            meeting.set()
        meeting.wait()
        return n

    futures = [executor.submit(meet, n) for n in range(5000)]
    assert [future.result(LONG) for future in futures] == list(range(5000))


def test_on_this_very_hub_a_result_parks(hub: Hub) -> None:
    with TaskExecutor(hub=hub) as executor:
        assert executor.submit(nap, 5).result() == 5
        assert executor.submit(nap).exception() is None
        assert take(executor.map(nap, range(10))) == list(range(10))
        with pytest.raises(TimeoutError):
            executor.submit(gp.sleep, 0.01).result(0.001)
        stuck = Stuck()
        future = executor.submit(stuck)
        with gp.move_on_after(0.001) as scope:
            future.result()
        assert scope.expired
        assert future.running()  # who asks is no owner
        stuck.go.set()


def test_the_limit_is_kept_in_order_of_submitting(hub: Hub) -> None:
    running, most, order = [0], [0], []

    def work(n: int) -> None:
        order.append(n)
        running[0] += 1
        most[0] = max(most[0], running[0])
        gp.yield_now()
        running[0] -= 1

    with TaskExecutor(3, hub=hub) as executor:
        for n in range(50):
            executor.submit(work, n)
        assert repr(executor).endswith(": 3 running of at most 3, 47 waiting>")
    assert repr(executor).endswith(": 0 running of at most 3, 0 waiting, shut down>")
    assert most == [3]
    assert order == list(range(50))


def test_calls_see_a_copy_of_the_submitters_context() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")

    def call() -> str:
        found = name.get()
        name.set("changed")
        return found

    def body(executor: TaskExecutor) -> list[str]:
        name.set("mine")
        futures = [executor.submit(call) for _ in range(3)]
        name.set("later")
        return [future.result() for future in futures]

    with TaskExecutor(1) as executor:
        assert gp.spawn(body, executor).result() == ["mine"] * 3


def test_the_tasks_have_names_and_sites(hub: Hub) -> None:
    stuck = Stuck()
    with TaskExecutor(hub=hub) as executor:
        future: Any = executor.submit(stuck)
        lambda_future: Any = executor.submit(lambda: None)
        wait_all_parked()
        assert future.task.name == "Stuck"
        assert "<lambda>" in lambda_future.task.name
        assert "test_the_tasks_have_names" in future.task.spawned_at()
        stuck.go.set()


# -- cancels -------------------------------------------------------------------------------------


def test_a_call_that_runs_is_cancelled(executor: TaskExecutor, in_thread: InThread) -> None:
    stuck = Stuck()
    future = executor.submit(stuck)
    assert in_thread(lambda: stuck.began.wait(LONG))
    assert future.running()
    called: list[bool] = []
    future.add_done_callback(lambda future: called.append(future.cancelled()))
    assert future.cancel()
    assert future.cancel()  # as the stdlib's
    assert future.cancelled()
    assert not future.running()
    assert called == [True]
    with pytest.raises(CancelledError):
        future.result()
    done, _ = concurrent.futures.wait([future], LONG)
    assert done == {future}
    assert stuck.ended.is_set()  # the stdlib counts it when it has really ended


def test_a_call_that_waits_for_its_turn_never_runs(hub: Hub) -> None:
    ran: list[int] = []
    with TaskExecutor(1, hub=hub) as executor:
        first = executor.submit(gp.sleep, 0.001)
        second = executor.submit(ran.append, 2)
        third = executor.submit(ran.append, 3)
        assert second.cancel()
        first.result()
        third.result()
    assert ran == [3]
    with TaskExecutor(hub=hub) as executor:
        future = executor.submit(ran.append, 4)
        assert future.cancel()  # it has a task, which has not begun
    assert ran == [3]


def test_what_a_cancelled_call_returns_is_dropped_and_its_error_is_not(
    hub: Hub, unhandled: list[BaseException]
) -> None:
    def explode() -> None:
        raise Boom

    for stuck in (Stuck(then=lambda: "late"), Stuck(then=explode)):
        with TaskExecutor(hub=hub) as executor:
            future = executor.submit(stuck)
            wait_all_parked()
            assert future.cancel()
        assert future.cancelled()
        assert stuck.ended.is_set()
    assert [type(error) for error in unhandled] == [Boom]


def test_a_task_that_something_else_cancels(hub: Hub) -> None:
    called: list[bool] = []

    def cancel(future: Any) -> None:
        future.add_done_callback(lambda future: called.append(future.cancelled()))
        future.task.cancel()

    with TaskExecutor(hub=hub) as executor:
        stuck = Stuck()
        begun, new = executor.submit(stuck), executor.submit(int)
        cancel(new)
        wait_all_parked()
        cancel(begun)
        for future in (begun, new):
            with pytest.raises(CancelledError):
                future.result()
    assert called == [True, True]


def test_shutdown_drops_what_waits(hub: Hub) -> None:
    ran: list[int] = []
    stuck = Stuck()
    executor = TaskExecutor(1, hub=hub)
    first = executor.submit(stuck)
    rest = [executor.submit(ran.append, n) for n in range(3)]
    wait_all_parked()
    stuck.go.set()
    executor.shutdown(cancel_futures=True)
    assert first.done()
    assert not first.cancelled()
    assert all(future.cancelled() for future in rest)
    assert ran == []


def test_shutdown_without_waiting(in_thread: InThread) -> None:
    stuck = Stuck()
    executor = TaskExecutor()
    future = executor.submit(stuck)
    executor.shutdown(wait=False)
    assert not future.done()
    thread = executor._thread
    assert thread is not None
    assert thread.is_alive()
    stuck.go.set()
    executor.shutdown()
    assert future.done()
    assert not thread.is_alive()


def test_asyncio_cancels_the_task(executor: TaskExecutor) -> None:
    stuck = Stuck()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as limit:
            future = loop.run_in_executor(executor, stuck)
            await asyncio.to_thread(stuck.began.wait, LONG)
            limit.reschedule(loop.time())
            await future

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert stuck.ended.wait(LONG)


def test_ends_and_cancels_race_without_loss(executor: TaskExecutor) -> None:
    for n in range(300):
        future = executor.submit(nap, n)
        for _ in range(n % 5):
            gp.sleep(1e-6)
        if future.cancel():
            assert future.cancelled()
        else:
            assert future.result(LONG) == n
        concurrent.futures.wait([future], LONG)


def test_submits_from_many_threads(executor: TaskExecutor) -> None:
    def submit() -> int:
        return sum(executor.submit(int, n).result(LONG) for n in range(200))

    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(submit) for _ in range(4)]
        assert [future.result(LONG) for future in futures] == [19900] * 4


# -- ends ----------------------------------------------------------------------------------------


def test_a_hub_that_has_ended(other: OtherHub) -> None:
    executor = TaskExecutor(1, hub=other.hub)
    stuck = Stuck()
    running, waiting = executor.submit(stuck), executor.submit(int)
    while not stuck.began.is_set():
        gp.sleep(0.0001)
    other.end()
    with pytest.raises(CancelledError):
        running.result(LONG)
    with pytest.raises(gp.HubError, match="has ended"):
        waiting.result(LONG)
    with pytest.raises(gp.HubError, match="has ended"):
        executor.submit(int)
    executor.shutdown()
    with pytest.raises(gp.HubError, match="has ended"):
        TaskExecutor(hub=other.hub)


def test_a_timeout_that_is_over_already(executor: TaskExecutor) -> None:
    stuck = Stuck()
    try:
        with pytest.raises(TimeoutError):
            executor.submit(stuck).result(-0.001)
        with pytest.raises(TimeoutError):  # it asks for what is left, which is less than nothing
            next(executor.map(lambda _: stuck(), [1], timeout=-0.001))
    finally:
        stuck.go.set()


def test_a_forked_child_finds_no_lock_taken_by_threads_that_it_has_not() -> None:
    def hold() -> None:
        assert running is not None
        with executor._lock, running._condition, waiting._condition, executor._empty._condition:
            held.set()
            go_on.wait()

    stuck = Stuck()
    held, go_on = threading.Event(), threading.Event()
    with TaskExecutor(1) as executor:
        running, waiting = executor.submit(stuck), executor.submit(int)
        stuck.began.wait()
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        said, say = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                for future in (running, waiting):
                    os.write(say, type(future.exception(LONG)).__name__.encode())
            except BaseException as error:
                os.write(say, f"{type(error).__name__} ".encode())
                os.write(say, type(waiting.exception(LONG)).__name__.encode())
            os._exit(0)
        os.close(say)
        try:
            alive = bool(select.select([said], [], [], LONG)[0])
            if not alive:
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            assert os.read(said, 100) == b"CancelledError HubError"
        finally:
            os.close(said)
            go_on.set()
            thread.join()
            stuck.go.set()
        assert waiting.result(LONG) == 0


def test_an_executor_that_is_dropped_ends_its_thread() -> None:
    executor = TaskExecutor()
    assert executor.submit(nap, 1).result() == 1
    thread = executor._thread
    assert thread is not None
    ref = weakref.ref(executor)
    gp.sleep(0.001)
    del executor
    gc.collect()
    assert ref() is None
    thread.gone.result(LONG)
    thread.join()


def test_tasks_beside_the_jobs_are_cancelled_at_the_end() -> None:
    stuck = Stuck()
    with TaskExecutor() as executor:
        executor.submit(gp.spawn, stuck).result()
    assert stuck.ended.is_set()


def test_a_task_beside_the_jobs_that_ends_its_thread_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: said.append(args.exc_type))
    with TaskExecutor() as executor:
        executor.submit(gp.spawn, fail, KeyboardInterrupt()).result()
        assert executor.submit(nap, 1).result() == 1
    assert said == [KeyboardInterrupt]


def test_a_task_that_will_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "END_GRACE", 0.01)
    monkeypatch.setattr("greenpump.interop.executor.END_GRACE", 0.01)
    ended = threading.Event()

    def stubborn() -> None:
        try:
            with gp.shield():
                gp.sleep(math.inf)
        finally:
            ended.set()

    with TaskExecutor() as executor:
        executor.submit(gp.spawn, stubborn).result()
    assert ended.is_set()


@pytest.mark.parametrize("limit", [0, -1])
def test_a_bad_limit(limit: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        TaskExecutor(limit)


def test_bad_arguments() -> None:
    with TaskExecutor() as executor, pytest.raises(TypeError, match="needs a callable, not 5"):
        executor.submit(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="needs a hub"):
        TaskExecutor(hub=5)  # type: ignore[arg-type]


def test_nothing_is_left_of_a_call(hub: Hub) -> None:
    class Thing:
        pass

    def call(thing: Thing, error: bool) -> Thing:
        if error:
            raise Boom
        return thing

    def refs(executor: TaskExecutor, error: bool) -> list[weakref.ref[Any]]:
        thing = Thing()
        found: list[weakref.ref[Any]] = [weakref.ref(thing)]
        try:
            # In no variable: the error's traceback holds this frame.
            executor.submit(call, thing, error).result()
        except Boom as caught:
            found.append(weakref.ref(caught))
        return found

    gc.collect()
    gc.disable()
    try:
        with TaskExecutor(hub=hub) as executor:
            for error in (False, True):
                found = gp.spawn(refs, executor, error).result()
                gp.yield_now()
                assert [ref() for ref in found] == [None] * len(found)
    finally:
        gc.enable()


def test_it_makes_no_hub_in_a_thread_that_only_submits(in_thread: InThread) -> None:
    from greenpump.hub.local import hub_or_none

    def use() -> object:
        with TaskExecutor() as executor:
            executor.submit(nap).result()
            executor.submit(nap).cancel()
        return hub_or_none()

    assert in_thread(use) is None


@pytest.mark.parametrize("stubborn", [False, True])
def test_the_end_of_the_program_cancels_what_runs(program: Program, stubborn: bool) -> None:
    found = program(
        f"""
        import contextlib, math
        import greenpump as gp
        from greenpump.interop import executor
        executor.EXIT_GRACE = 0.05
        began = gp.Event()

        def call():
            with gp.shield() if {stubborn} else contextlib.nullcontext():
                try:
                    began.set()
                    gp.sleep(math.inf)
                finally:
                    print("cleaned")

        tasks = executor.TaskExecutor()
        tasks.submit(call)
        began.wait()
        print("end")
        """
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "end\ncleaned\n", "")


def test_after_the_end_of_the_program_it_takes_no_more_calls(program: Program) -> None:
    found = program(
        """
        import atexit

        @atexit.register
        def late():  # after what greenpump has registered
            for each in (used, unused):
                try:
                    each.submit(int)
                except RuntimeError as error:
                    print(error)

        from greenpump.interop import TaskExecutor
        used, unused = TaskExecutor(), TaskExecutor()
        used.submit(int).result()
        """
    )
    refused = "cannot schedule new futures after interpreter shutdown\n"
    assert (found.returncode, found.stdout, found.stderr) == (0, refused * 2, "")
