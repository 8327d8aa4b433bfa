"""Task: its states, its end, and who hears of it."""

from __future__ import annotations

import gc
import re
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.hub.local import this_hub
from greenpump.hub.pollable import Pollable
from greenpump.hub.task import NOBODY, Task
from greenpump.testing import virtual_clock, wait_all_parked


def fail() -> None:
    raise KeyError("lost")


@pytest.fixture
def unhandled(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What reaches the excepthook."""
    seen: list[BaseException] = []
    monkeypatch.setattr(gp, "excepthook", lambda task, error: seen.append(error))
    return seen


# -- results ---------------------------------------------------------------------------------


def test_a_result() -> None:
    task = gp.spawn(divmod, 7, 2)
    assert [task.done, task.result(), task.done] == [False, (3, 1), True]
    assert task.exception() is None
    assert task.join() is True
    assert not task.cancelled


def test_an_error_is_raised_at_every_asker_and_reported_nowhere(
    unhandled: list[BaseException],
) -> None:
    task = gp.spawn(fail)
    other = gp.spawn(task.exception)
    with pytest.raises(KeyError, match="lost") as caught:
        task.result()
    assert task.exception() is caught.value is other.result()
    assert unhandled == []


def test_join_doesnt_raise_and_doesnt_observe(unhandled: list[BaseException]) -> None:
    task = gp.spawn(fail)
    assert task.join() is True
    assert unhandled == [task.exception()]


def test_an_error_nobody_waits_for_goes_to_the_hook(unhandled: list[BaseException]) -> None:
    gp.spawn(fail)
    wait_all_parked()
    assert [type(error) for error in unhandled] == [KeyError]


def test_an_asker_that_gave_up_did_not_observe(unhandled: list[BaseException]) -> None:
    def late() -> None:
        gp.sleep(2)
        fail()

    with virtual_clock():
        task = gp.spawn(late)
        with pytest.raises(TimeoutError, match="has not ended within 1 s"):
            task.result(1)
        with pytest.raises(TimeoutError, match=re.escape(task.name)):
            task.exception(0)
        assert task.join(0.5) is False
        task.join()
    assert len(unhandled) == 1


def test_the_traceback_starts_with_the_users_function() -> None:
    error = gp.spawn(fail).exception()
    assert error is not None
    assert error.__traceback__ is not None
    assert error.__traceback__.tb_frame.f_code is fail.__code__


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_is_raised_in_main(kind: type[BaseException]) -> None:
    def end() -> None:
        raise kind("stop")

    task = gp.spawn(end)
    with pytest.raises(kind, match="stop"):
        gp.sleep(60)
    assert task.done
    gp.spawn(end)
    with pytest.raises(kind):
        gp.spawn(gp.sleep, 0).join()
    wait_all_parked()


def test_a_task_cant_wait_for_itself() -> None:
    def body() -> None:
        task = gp.current()
        for wait in (task.join, task.result, task.exception):
            with pytest.raises(RuntimeError, match="would wait for itself"):
                wait()
        with pytest.raises(RuntimeError, match="would wait for itself"):
            task.join(1)

    gp.spawn(body).result()


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_no_such_timeout(timeout: float) -> None:
    task = gp.spawn(gp.yield_now)
    with pytest.raises(ValueError, match=r"NaN|negative"):
        task.join(timeout)
    task.join()
    assert task._joiners is None


def test_joined_by_another_thread(hub: Hub) -> None:
    task = gp.spawn(gp.sleep, 0.01)
    ended = []

    def other_hub() -> None:
        assert task.join() is True
        ended.append(task.done)
        assert task.result() is None

    threads = [threading.Thread(target=other_hub) for _ in range(3)]
    for thread in threads:
        thread.start()
    while len(ended) < 3:
        gp.sleep(0.001)
    for thread in threads:
        thread.join()
    assert ended == [True] * 3


def test_made_by_spawn_only() -> None:
    with pytest.raises(TypeError, match="spawn"):
        gp.Task()


# -- cancel ------------------------------------------------------------------------------------


def parked_in_sleep() -> None:
    gp.sleep(3600)


def parked_in_a_join() -> None:
    gp.spawn(gp.sleep, 1).join()


def ready() -> None:
    while True:
        gp.yield_now()


@pytest.mark.parametrize("body", [parked_in_sleep, parked_in_a_join, ready])
@pytest.mark.parametrize("turns", [0, 1, 2])
def test_cancel_in_every_state(
    body: Callable[[], None], turns: int, unhandled: list[BaseException]
) -> None:
    with virtual_clock():
        task = gp.spawn(body)
        for _ in range(turns):
            gp.yield_now()
        task.cancel("enough")
        task.cancel("again")
        assert task.join(1) is True
        assert task.cancelled
        assert isinstance(task.error, gp.Cancelled)
        assert str(task.error) == "enough"
        with pytest.raises(gp.TaskCancelled, match="was cancelled"):
            task.result()
        assert isinstance(task.exception(), gp.TaskCancelled)
        task.cancel("too late")
        gp.sleep(2)
    assert unhandled == []


def test_a_cancelled_task_that_never_started_never_runs() -> None:
    ran: list[int] = []
    task = gp.spawn(ran.append, 1)
    task.cancel()
    task.join()
    assert ran == []
    assert task.cancelled


def test_a_task_that_cancels_itself_ends_at_its_next_park() -> None:
    steps = []

    def body() -> None:
        gp.current().cancel()
        steps.append(1)
        gp.yield_now()
        steps.append(2)

    task = gp.spawn(body)
    task.join()
    assert steps == [1]
    assert task.cancelled


def test_a_cancelled_task_may_return_all_the_same(unhandled: list[BaseException]) -> None:
    def stubborn() -> str:
        try:
            gp.sleep(3600)
        except gp.Cancelled:
            return "cleaned up"
        return "slept"

    task = gp.spawn(stubborn)
    gp.yield_now()
    task.cancel()
    assert task.result() == "cleaned up"
    assert not task.cancelled


def test_an_error_while_cleaning_up_is_not_lost(unhandled: list[BaseException]) -> None:
    def body() -> None:
        try:
            gp.sleep(3600)
        finally:
            fail()

    task = gp.spawn(body)
    gp.yield_now()
    task.cancel()
    task.join()
    assert [type(error) for error in unhandled] == [KeyError]
    assert not task.cancelled


def test_every_park_of_a_cancelled_task_raises_also_in_its_scopes() -> None:
    count = []

    def body() -> None:
        for _ in range(3):
            try:
                with gp.move_on_after(10):
                    gp.sleep(5)
            except gp.Cancelled:
                count.append(1)
        gp.yield_now()

    task = gp.spawn(body)
    gp.yield_now()
    task.cancel()
    task.join()
    assert len(count) == 3
    assert task.cancelled


def test_cancel_of_a_ready_task_does_not_lose_its_message() -> None:
    got = []

    def receiver() -> None:
        got.append(sender.result())
        gp.yield_now()

    def send() -> str:
        gp.yield_now()
        gp.yield_now()
        gp.spawn(
            task.cancel
        )  # runs after this task has readied the receiver, and before that goes on
        return "message"

    sender = gp.spawn(send)
    task = gp.spawn(receiver)
    task.join()
    assert got == ["message"]
    assert task.cancelled


def test_cancelled_by_another_thread() -> None:
    task = gp.spawn(gp.sleep, 3600)
    gp.yield_now()
    thread = threading.Thread(target=task.cancel, args=("from afar",))
    thread.start()
    assert task.join(30) is True
    thread.join()
    assert str(task.error) == "from afar"


def test_a_cancel_follows_a_task_that_another_hub_took_over(hub: Hub) -> None:
    ready, go = threading.Event(), threading.Event()
    thieves: list[Hub] = []

    def thief() -> None:
        thieves.append(this_hub())
        ready.set()
        go.wait()
        while not task.done:
            gp.sleep(0.001)
        this_hub().close()

    task = gp.spawn(gp.sleep, 3600)
    thread = threading.Thread(target=thief)
    thread.start()
    ready.wait()
    canceller = threading.Thread(target=task.cancel)  # posts to the hub that it stands with now
    canceller.start()
    canceller.join()
    hub.ready.remove(task)
    task.hub = thieves[0]
    thieves[0].post(task)
    gp.yield_now()
    gp.sleep(0.001)  # the posted cancel arrives here, at the wrong hub
    go.set()
    assert task.join(10)
    assert task.cancelled
    thread.join()


def test_result_of_a_cancelled_task_is_absorbed_by_no_scope_of_the_asker() -> None:
    task = gp.spawn(gp.sleep, 3600)
    task.cancel()
    with gp.move_on_after(60) as scope, pytest.raises(gp.TaskCancelled):
        task.result()
    assert not scope.expired
    with pytest.raises(Exception, match="was cancelled"), gp.timeout(60):
        task.result()


def test_a_strayed_cancelled_is_an_error_like_others(unhandled: list[BaseException]) -> None:
    def stray() -> None:
        raise gp.Cancelled("whose?")

    task = gp.spawn(stray)
    task.join()
    assert [str(error) for error in unhandled] == ["whose?"]


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("in_thread", [True, False])
def test_the_cause_of_a_cancel_is_shown(started: bool, in_thread: bool) -> None:
    cause = KeyError("why")
    task = gp.spawn(gp.sleep, 3600)
    if started:
        wait_all_parked()
    if in_thread:
        thread = threading.Thread(target=task.cancel, args=(cause,))
        thread.start()
        thread.join()
    else:
        task.cancel(cause)
    with pytest.raises(gp.TaskCancelled) as caught:
        task.result()
    assert caught.value.__cause__ is cause
    assert str(task.error) == "cancelled for KeyError('why')"


# -- names and states --------------------------------------------------------------------------


def test_names() -> None:
    class Callable_:
        def __call__(self) -> None: ...

    assert re.fullmatch(r"fail#\d+", gp.spawn(fail).name)
    task = gp.spawn(Callable_())
    assert re.fullmatch(r"Callable_#\d+", task.name)
    assert re.fullmatch(r"fail#\d+", gp.spawn(partial(partial(fail))).name)
    task.name = "mine"
    assert task.name == "mine"
    assert "mine" in repr(task)
    assert gp.spawn(int).name != gp.spawn(int).name
    wait_all_parked()


def test_states() -> None:
    seen = []

    def body() -> None:
        seen.append(gp.current().state())
        gp.yield_now()
        gp.sleep(5)

    with virtual_clock():
        task = gp.spawn(body)
        assert task.state() == "not started"
        gp.yield_now()
        assert task.state() == "ready"
        gp.yield_now()
        assert task.state() == "sleep"
        joiner = gp.spawn(task.join)
        wait_all_parked()
        assert joiner.state() == f"join of task {task.name}"
        joiner.join()
        assert seen == ["running"]
        assert task.state() == "done"
        cancelled = gp.spawn(int)
        cancelled.cancel()
        cancelled.join()
        assert cancelled.state() == "cancelled"
    failed = gp.spawn(fail)
    failed.exception()
    assert failed.state() == "failed: KeyError('lost')"
    assert repr(NOBODY).startswith("<Task nobody")


def test_the_spawn_site() -> None:
    task = gp.spawn(int)
    line = test_the_spawn_site.__code__.co_firstlineno + 1
    assert task.spawned_at() == f"{__file__}:{line} in test_the_spawn_site"
    task.join()
    assert task.hub.main.spawned_at() == "(unknown)"


# -- what an ended task keeps ------------------------------------------------------------------


class Payload:
    pass


def test_a_dropped_task_takes_all_it_held_with_it() -> None:
    refs: list[weakref.ref[Payload]] = []

    def body(argument: Payload, *, keyword: Payload) -> Payload:
        result = Payload()
        gp.yield_now()
        refs.extend(weakref.ref(item) for item in (argument, keyword, result))
        return result

    gc.disable()
    try:
        task = gp.spawn(body, Payload(), keyword=Payload())
        task.join()
        # Only the result lives, for as long as the handle.
        assert [ref() is not None for ref in refs] == [False, False, True]
        del task
        assert [ref() for ref in refs] == [None] * 3
    finally:
        gc.enable()


def test_idle_workers_and_parked_tasks_keep_no_result_alive(hub: Hub) -> None:
    refs: list[weakref.ref[Payload]] = []

    def produce() -> Payload:
        result = Payload()
        refs.append(weakref.ref(result))
        return result

    def parked() -> None:
        gp.spawn(produce)
        gp.sleep(3600)

    gc.disable()
    try:
        with virtual_clock():
            tasks: list[gp.Task[Any]] = [gp.spawn(parked) for _ in range(10)]
            wait_all_parked()
            assert len(refs) == 10
            assert hub.idle_workers
            assert [ref() for ref in refs] == [None] * 10
            for task in tasks:
                task.cancel()
                task.join()
    finally:
        gc.enable()


def test_a_failed_task_dropped_unasked_keeps_nothing(unhandled: list[BaseException]) -> None:
    refs: list[weakref.ref[Payload]] = []

    def body(payload: Payload) -> None:
        refs.append(weakref.ref(payload))
        raise KeyError

    gp.spawn(body, Payload()).join()
    unhandled.clear()
    gc.collect()
    assert refs[0]() is None


def its_own_cancel() -> None:
    gp.Event().wait()  # a sleep would leave an entry in the heap for a while


def a_timeout_of_a_sleep() -> None:
    with gp.timeout(0.001):
        gp.sleep(1000)


def a_timeout_of_a_receive() -> None:
    with gp.timeout(0.001):
        gp.Channel[int]().recv()


def a_closed_channel_to_receive_from() -> None:
    channel = gp.Channel[int]()
    gp.spawn(channel.close)
    channel.recv()


def a_closed_channel_to_send_on() -> None:
    channel = gp.Channel[int]()
    gp.spawn(channel.close)
    channel.send(1)


def another_task_s_error() -> None:
    gp.spawn(fail).result()


@pytest.mark.parametrize(
    "end",
    [
        its_own_cancel,
        a_timeout_of_a_sleep,
        a_timeout_of_a_receive,
        a_closed_channel_to_receive_from,
        a_closed_channel_to_send_on,
        another_task_s_error,
    ],
)
def test_what_a_task_held_goes_with_it_whatever_ended_it(
    end: Callable[[], None], unhandled: list[BaseException]
) -> None:
    def body(payload: Payload) -> None:
        refs.append(weakref.ref(payload))
        end()

    refs: list[weakref.ref[Any]] = []
    gc.collect()
    gc.disable()
    try:
        task = gp.spawn(body, Payload())
        refs.append(weakref.ref(task))
        if end is its_own_cancel:
            gp.yield_now()
            task.cancel()
        assert task.join()
        assert task.cancelled is (end is its_own_cancel)
        unhandled.clear()
        del task
        gp.yield_now()
        assert [ref() for ref in refs] == [None, None]
    finally:
        gc.enable()


def test_ten_thousand_ended_tasks_leave_the_pool_within_its_bound(hub: Hub) -> None:
    hub.max_idle_workers = 10

    def body() -> None:
        gp.yield_now()

    tasks = [gp.spawn(body) for _ in range(1000)]
    for task in tasks:
        task.join()
    assert len(hub.idle_workers) <= 10
    assert len(hub.workers) <= 10
    started = time.monotonic()
    assert gp.spawn(int).result() == 0
    assert time.monotonic() - started < 10


def test_what_a_switch_touches_is_one_cache_line() -> None:
    """Six words and the head that every object has; without the GIL that is longer."""
    for kind in (Task, Pollable):
        first: type = kind
        while first.__base__ is not object:
            assert first.__base__ is not None
            first = first.__base__
        assert first is not kind
        assert first.__basicsize__ - object.__basicsize__ <= 6 * 8
