"""run_coroutine: results, errors and cancels pass both ways, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import subprocess
import threading
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.interop import coroutines
from greenpump.interop.coroutines import run_coroutine
from greenpump.testing import virtual_clock, wait_all_parked

from .conftest import settle_references

LONG = 30.0
Program = Callable[[str], subprocess.CompletedProcess[str]]


class Boom(Exception):
    pass


async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


async def fail(error: BaseException) -> NoReturn:
    await asyncio.sleep(0)
    raise error


class Stuck:
    """A coroutine that waits for good, and what became of it."""

    def __init__(self, then: Callable[[], Any] = lambda: None) -> None:
        self.began = gp.Event()
        self.ended = gp.Event()
        self._then = then

    async def __call__(self) -> Any:
        self.began.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as error:
            await asyncio.sleep(0)
            self.message = str(error)
            found = self._then()
            if found is None:
                raise
            return found
        finally:
            self.ended.set()


# -- results and errors ----------------------------------------------------------------------------


def test_it_returns_what_the_coroutine_returns() -> None:
    assert run_coroutine(double(4)) == 8
    assert gp.spawn(run_coroutine, double(5)).result() == 10


def test_many_at_once_share_one_thread() -> None:
    before = threading.active_count()
    meeting: list[asyncio.Barrier] = []

    async def meet(n: int) -> tuple[int, threading.Thread]:
        if not meeting:
            meeting.append(asyncio.Barrier(50))
        await meeting[0].wait()
        return n, threading.current_thread()

    tasks = [gp.spawn(run_coroutine, meet(n)) for n in range(50)]
    found = [task.result(LONG) for task in tasks]
    assert [n for n, _ in found] == list(range(50))
    assert len({thread for _, thread in found}) == 1
    assert threading.active_count() == before + 1


@pytest.mark.parametrize("kind", [KeyError, OSError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_it_raises_what_the_coroutine_raises(kind: type[BaseException]) -> None:
    error = kind("x")
    with pytest.raises(kind) as caught:
        run_coroutine(fail(error))
    assert caught.value is error
    assert caught.traceback[-1].name == "fail"
    assert run_coroutine(double(1)) == 2  # the event loop has outlived it


def test_other_tasks_run_meanwhile() -> None:
    go: list[asyncio.Event] = []
    began = gp.Event()

    async def wait() -> str:
        go.append(asyncio.Event())
        began.set()
        await go[0].wait()
        return "done"

    async def let_go() -> None:
        go[0].set()

    task = gp.spawn(run_coroutine, wait())
    began.wait()
    run_coroutine(let_go())
    assert task.result(LONG) == "done"


def test_the_coroutine_has_a_copy_of_the_callers_context() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="none")

    async def change() -> str:
        found = name.get()
        name.set("changed")
        await asyncio.sleep(0)
        return found + name.get()

    def body() -> str:
        name.set("mine ")
        return run_coroutine(change()) + name.get()

    assert gp.spawn(body).result() == "mine changedmine "


def test_what_it_starts_goes_on_afterwards() -> None:
    steps: list[str] = []
    done = gp.Event()

    async def later() -> None:
        await asyncio.sleep(0)
        steps.append("later")
        done.set()

    async def start() -> None:
        steps.append("start")
        start.task = asyncio.create_task(later())  # type: ignore[attr-defined]

    run_coroutine(start())
    assert done.wait(LONG)
    assert steps == ["start", "later"]


def test_from_several_hubs_and_plain_threads(in_thread: Callable[[Any], Any]) -> None:
    assert in_thread(lambda: run_coroutine(double(3))) == 6

    def call(n: int) -> int:
        return run_coroutine(double(n))

    def main() -> None:
        tasks = [gp.spawn_on(gp.hubs()[n % 2], call, n) for n in range(200)]
        assert [task.result() for task in tasks] == [2 * n for n in range(200)]

    gp.run(main, hubs=2)


# -- cancels -------------------------------------------------------------------------------------


def test_a_limit_cancels_the_coroutine_and_waits_for_its_end() -> None:
    stuck = Stuck()
    with gp.move_on_after(0.001) as scope:
        run_coroutine(stuck())
    assert scope.expired
    assert stuck.ended.is_set() or not stuck.began.is_set()


def test_a_cancelled_task_cancels_its_coroutine() -> None:
    stuck = Stuck()
    task = gp.spawn(run_coroutine, stuck())
    stuck.began.wait()
    task.cancel("enough")
    assert task.join(LONG)
    assert task.cancelled
    assert stuck.ended.is_set()
    assert stuck.message == "enough"


def test_what_a_cancelled_coroutine_returns_all_the_same_counts() -> None:
    stuck = Stuck(then=lambda: "saved")
    got: list[str] = []

    def body() -> None:
        with gp.move_on_after() as scope:
            gp.spawn(cancel, scope)
            got.append(run_coroutine(stuck()))
            gp.yield_now()
            got.append("not reached")

    def cancel(scope: gp.Scope) -> None:
        stuck.began.wait()
        scope.cancel()

    gp.spawn(body).result(LONG)
    assert got == ["saved"]


def test_what_a_cancelled_coroutine_raises_counts() -> None:
    def explode() -> None:
        raise Boom

    stuck = Stuck(then=explode)
    task = gp.spawn(run_coroutine, stuck())
    stuck.began.wait()
    task.cancel()
    with pytest.raises(Boom):
        task.result(LONG)


def test_a_coroutine_that_is_cancelled_on_its_side() -> None:
    async def give_up() -> None:
        current = asyncio.current_task()
        assert current is not None
        current.cancel("no use")
        await asyncio.sleep(0)

    with pytest.raises(gp.TaskCancelled, match="give_up was cancelled: no use") as caught:
        run_coroutine(give_up())
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    gp.yield_now()  # the asker itself is not cancelled


def test_in_a_cancelled_scope_it_never_begins() -> None:
    ran: list[int] = []

    async def note() -> None:
        ran.append(1)

    with gp.move_on_after() as scope:
        scope.cancel()
        run_coroutine(note())
    assert scope.expired
    run_coroutine(double(1))
    assert ran == []


def test_ctrl_c_leaves_at_once_and_cancels(hub: Hub) -> None:
    stuck = Stuck()

    def interrupt() -> None:
        stuck.began.wait()
        hub.post(lambda: hub.to_main(KeyboardInterrupt()))

    gp.spawn(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_coroutine(stuck())
    assert stuck.ended.wait(LONG)


def test_a_second_interruption_leaves_it_to_itself(hub: Hub) -> None:
    said: list[Any] = []
    reported = gp.Event()
    go: list[asyncio.Event] = []
    began, cleaning = gp.Event(), gp.Event()

    async def watch() -> None:
        def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            said.append(context)
            reported.set()

        asyncio.get_running_loop().set_exception_handler(handler)

    async def stubborn() -> None:
        go.append(asyncio.Event())
        began.set()
        try:
            await asyncio.sleep(3600)
        finally:
            cleaning.set()
            await go[0].wait()
            raise Boom

    async def let_go() -> None:
        go[0].set()

    def interrupt(scope: gp.Scope) -> None:
        began.wait()
        scope.cancel()
        cleaning.wait()
        hub.post(lambda: hub.to_main(KeyboardInterrupt()))

    run_coroutine(watch())

    def body() -> None:
        with gp.move_on_after() as scope:
            gp.spawn(interrupt, scope)
            run_coroutine(stubborn())

    with pytest.raises(KeyboardInterrupt):
        body()
    run_coroutine(let_go())
    assert reported.wait(LONG)
    assert isinstance(said[0]["exception"], Boom)
    assert "stubborn failed after its caller had left" in said[0]["message"]


def test_ends_and_cancels_race_without_loss() -> None:
    async def quick() -> str:
        for _ in range(3):
            await asyncio.sleep(0)
        return "value"

    def body(found: list[str]) -> None:
        found.append(run_coroutine(quick()))

    ended = []
    for n in range(300):
        found: list[str] = []
        task = gp.spawn(body, found)
        for _ in range(n % 7):
            gp.sleep(1e-6)
        task.cancel()
        assert task.join(LONG)
        assert task.cancelled or found == ["value"]
        ended.append(task.cancelled)
    helper = coroutines._present
    assert helper is not None
    assert helper.calls == set()


def test_asyncio_is_imported_when_it_is_needed(program: Program) -> None:
    found = program(
        """
        import sys
        import greenpump.interop.awaiting, greenpump.interop.coroutines, greenpump.interop.executor
        assert "asyncio" not in sys.modules
        """
    )
    assert (found.returncode, found.stderr) == (0, "")


# -- bad use -------------------------------------------------------------------------------------


def test_what_is_no_coroutine_is_refused() -> None:
    for nonsense in (double, 5, None):
        with pytest.raises(TypeError, match="needs a coroutine, not"):
            run_coroutine(nonsense)  # type: ignore[arg-type]


def test_in_a_thread_whose_event_loop_runs_it_is_refused() -> None:
    async def outer() -> None:
        with pytest.raises(RuntimeError, match="await double there"):
            run_coroutine(double(1))

    asyncio.run(outer())
    run_coroutine(outer())


# -- the hub's view --------------------------------------------------------------------------------


def test_what_it_waits_for() -> None:
    stuck = Stuck()
    task = gp.spawn(run_coroutine, stuck())
    stuck.began.wait()
    wait_all_parked()
    assert task.state() == "coroutine Stuck.__call__"
    task.cancel()
    task.join()


def test_the_virtual_clock_waits_for_it() -> None:
    with virtual_clock() as clock:
        before = clock.now()
        with gp.timeout(1):
            assert run_coroutine(double(2)) == 4
        assert clock.now() == before


# -- the thread ------------------------------------------------------------------------------------


def test_shut_down_ends_all_and_the_next_call_begins_anew() -> None:
    coroutines.shut_down()
    stuck = Stuck()
    task = gp.spawn(run_coroutine, stuck())
    stuck.began.wait()
    thread = coroutines._present
    assert thread is not None
    coroutines.shut_down()
    assert not thread.is_alive()
    with pytest.raises(gp.TaskCancelled, match="was cancelled"):
        task.result(LONG)
    assert stuck.ended.is_set()
    assert run_coroutine(double(1)) == 2


def test_nothing_is_left_of_a_call() -> None:
    class Thing:
        pass

    async def take(thing: Thing, error: bool) -> Thing:
        await asyncio.sleep(0)
        if error:
            raise Boom
        return thing

    def refs(error: bool) -> list[weakref.ref[Any]]:
        thing = Thing()
        found: list[weakref.ref[Any]] = [weakref.ref(thing)]
        try:
            run_coroutine(take(thing, error))
        except Boom as caught:
            found.append(weakref.ref(caught))
        return found

    run_coroutine(double(1))
    gc.collect()
    gc.disable()
    try:
        for error in (False, True):
            found = gp.spawn(refs, error).result()
            run_coroutine(double(1))  # asyncio's handle of the last step is gone
            settle_references()
            assert [ref() for ref in found] == [None] * len(found)
    finally:
        gc.enable()


def test_a_forked_child_has_a_thread_of_its_own() -> None:
    stuck = Stuck()
    task = gp.spawn(run_coroutine, stuck())
    stuck.began.wait()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                task.result(LONG)
            except gp.HubError as error:
                assert "forked while the coroutine" in str(error)  # noqa: PT017
                code = 0 if run_coroutine(double(21)) == 42 else 2
            else:
                code = 3
        except BaseException:
            code = 4
        os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert run_coroutine(double(1)) == 2  # the parent's event loop is as it was
    task.cancel()
    assert task.join(LONG)


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("gp.spawn(run_coroutine, stuck()); began.wait()", 0, "cleaned\n"),
        ("run_coroutine(asyncio.to_thread(int))", 0, ""),
        ("gp.run(run_coroutine, asyncio.sleep(0))", 0, ""),
        ("run_coroutine(exit_with(3))", 3, ""),
        ("gp.spawn(run_coroutine, exit_with(3)); gp.sleep(30)", 3, ""),
    ],
)
def test_the_end_of_the_program(program: Program, body: str, code: int, said: str) -> None:
    found = program(
        f"""
        import asyncio, sys
        import greenpump as gp
        from greenpump.interop.coroutines import run_coroutine
        began = gp.Event()

        async def stuck():
            began.set()
            try:
                await asyncio.sleep(3600)
            finally:
                print("cleaned")

        async def exit_with(code):
            sys.exit(code)

        {body}
        """
    )
    assert (found.returncode, found.stdout, found.stderr) == (code, said, "")


def test_sleeping_forever_in_asyncio_does_not_keep_the_program(program: Program) -> None:
    found = program(
        """
        import asyncio
        import greenpump as gp
        from greenpump.interop import coroutines
        coroutines.EXIT_GRACE = 0.05
        began = gp.Event()

        async def stubborn():
            began.set()
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    pass

        gp.spawn(coroutines.run_coroutine, stubborn())
        began.wait()
        """
    )
    assert found.returncode == 0
