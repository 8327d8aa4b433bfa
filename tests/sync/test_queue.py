"""Queue, LifoQueue, PriorityQueue: against the standard library's, and what those can't do."""

from __future__ import annotations

import gc
import queue as stdlib
import random
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenpump as gp
from greenpump.hub.pollable import QUOTA
from greenpump.sync.queue import Empty, Full, LifoQueue, PriorityQueue, Queue, ShutDown
from greenpump.sync.timer import spawn_later
from greenpump.testing import preemption_point, races, virtual_clock, wait_all_parked

KINDS: list[type[Queue[Any]]] = [Queue, LifoQueue, PriorityQueue]


def waiting(queue: Queue[Any]) -> int:
    """How many waiters the queue remembers, those with an item to come included."""
    line = queue._line
    return len(line._receivers) + len(line._senders) + len(line._handed) + len(line.refused)


def drained(queue: Queue[Any]) -> list[Any]:
    return [queue.get_nowait() for _ in range(queue.qsize())]


# -- against the standard library's --------------------------------------------------------------


class _Older:
    """What Python 3.13 added to the standard library's queues, as its documentation has it."""

    is_shutdown = False

    def put(self: Any, item: Any, block: bool = True, timeout: float | None = None) -> None:
        if self.is_shutdown:
            raise ShutDown
        super().put(item, block, timeout)  # type: ignore[misc]

    def get(self: Any, block: bool = True, timeout: float | None = None) -> Any:
        if self.is_shutdown and self.empty():
            raise ShutDown
        return super().get(block, timeout)  # type: ignore[misc]

    def shutdown(self: Any, immediate: bool = False) -> None:
        self.is_shutdown = True
        while immediate and self._qsize():
            self._get()
            self.unfinished_tasks = max(0, self.unfinished_tasks - 1)


def standard(kind: type[Queue[Any]], maxsize: int) -> Any:
    theirs = getattr(stdlib, kind.__name__)
    if sys.version_info >= (3, 13):
        return theirs(maxsize)
    return type(kind.__name__, (_Older, theirs), {})(maxsize)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put_nowait"), st.integers(-3, 3)),
        st.tuples(st.just("put_nowait"), st.integers(-3, 3)),
        st.tuples(st.just("get_nowait")),
        st.tuples(st.just("get_nowait")),
        st.tuples(st.just("put"), st.integers(-3, 3), st.just(True), st.just(0)),
        st.tuples(st.just("put"), st.integers(-3, 3), st.just(False), st.just(-1)),
        st.tuples(st.just("put"), st.integers(-3, 3), st.just(True), st.just(-1)),
        st.tuples(st.just("get"), st.just(True), st.just(0)),
        st.tuples(st.just("get"), st.just(False), st.just(-1)),
        st.tuples(st.just("get"), st.just(True), st.just(-1)),
        st.tuples(st.just("task_done")),
        st.tuples(st.just("shutdown"), st.booleans()),
    ),
    max_size=40,
)


@pytest.mark.parametrize("kind", KINDS)
@given(maxsize=st.integers(-1, 4), steps=STEPS)
def test_step_by_step_it_does_what_the_stdlib_does(
    kind: type[Queue[Any]], maxsize: int, steps: list[tuple[Any, ...]]
) -> None:
    ours, theirs = kind(maxsize), standard(kind, maxsize)

    def outcome(queue: Any, name: str, *args: Any) -> object:
        try:
            return getattr(queue, name)(*args)
        except (Empty, Full, ShutDown, ValueError) as error:
            return type(error)

    for step in steps:
        if step[0] in ("put", "get") and step[-1] == -1 and step[-2] and theirs.is_shutdown:
            continue  # which of two errors comes first is nobody's concern
        if step[0] == "put" and step[-1] == -1 and maxsize <= 0:
            continue  # the standard library doesn't look at it, since it won't wait
        assert outcome(ours, *step) == outcome(theirs, *step), step
        for look in ("qsize", "empty", "full"):
            assert outcome(ours, look) == outcome(theirs, look), look
        assert ours.unfinished_tasks == theirs.unfinished_tasks
        assert ours.is_shutdown == theirs.is_shutdown
        assert ours.maxsize == max(0, theirs.maxsize)


def test_the_exceptions_are_the_stdlibs() -> None:
    assert (Empty, Full) == (stdlib.Empty, stdlib.Full)
    if sys.version_info >= (3, 13):
        assert ShutDown is stdlib.ShutDown
    else:
        assert issubclass(ShutDown, Exception)
        assert ShutDown.__name__ == "ShutDown"


def test_a_size_that_is_no_whole_number_is_refused() -> None:
    with pytest.raises(TypeError):
        Queue(1.5)  # type: ignore[arg-type]


# What waits for room enters when there is some, as in the standard library: not before.


@pytest.mark.parametrize(
    ("kind", "order"), [(Queue, [5, 1, 9]), (LifoQueue, [5, 1, 9]), (PriorityQueue, [5, 1, 9])]
)
def test_who_waits_with_an_item_is_not_in_the_queue(
    kind: type[Queue[Any]], order: list[int]
) -> None:
    queue = kind(1)
    queue.put(5)
    putters = [gp.spawn(queue.put, item) for item in (1, 9)]
    wait_all_parked()
    assert queue.qsize() == 1
    assert queue.full()
    assert [queue.get() for _ in order] == order
    for task in putters:
        task.result()


@pytest.mark.parametrize(
    ("kind", "order"),
    [(Queue, [5, 1, 9, 3]), (LifoQueue, [1, 9, 3, 5]), (PriorityQueue, [1, 3, 5, 9])],
)
def test_the_order(kind: type[Queue[Any]], order: list[int]) -> None:
    queue = kind()
    for item in (5, 3, 9, 1) if kind is LifoQueue else (5, 1, 9, 3):
        queue.put(item)
    assert drained(queue) == order


# -- waiting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Queue, LifoQueue, PriorityQueue])
def test_every_way_into_it_enters_the_same_latch(kind: type[Queue[Any]]) -> None:
    line = kind()._line
    enter, leave, buffer, receivers, senders = line._parts
    assert (enter, leave) == line._latch
    assert buffer is line._buffer
    assert receivers is line._receivers
    assert senders is line._senders


@pytest.mark.parametrize("kind", KINDS)
def test_getters_are_served_in_the_order_of_coming(kind: type[Queue[Any]]) -> None:
    queue = kind()
    getters = [gp.spawn(queue.get) for _ in range(5)]
    wait_all_parked()
    for item in range(5):
        queue.put(item)
    assert [task.result() for task in getters] == [0, 1, 2, 3, 4]


def test_putters_are_served_in_the_order_of_coming() -> None:
    queue = Queue[int](1)
    putters = [gp.spawn(queue.put, item) for item in range(5)]
    wait_all_parked()
    assert [task.done for task in putters] == [True, False, False, False, False]
    assert queue.get() == 0
    with pytest.raises(Full):
        queue.put_nowait(99)  # nobody overtakes
    assert [queue.get() for _ in range(4)] == [1, 2, 3, 4]
    assert all(task.join() for task in putters)


@virtual_clock()
def test_timeouts() -> None:
    queue = Queue[int](1)
    start = gp.current().hub.timers.clock()

    def passed() -> float:
        return (gp.current().hub.timers.clock() - start) / 1e9

    with pytest.raises(Empty):
        queue.get(timeout=2.5)
    assert passed() == 2.5
    queue.put(1, timeout=2.5)
    with pytest.raises(Full):
        queue.put(2, timeout=1)
    assert passed() == 3.5
    assert queue.get(timeout=2.5) == 1
    getter = gp.spawn(queue.get, timeout=3)
    gp.sleep(2)
    queue.put(3, timeout=0)
    assert getter.result() == 3
    assert waiting(queue) == 0
    assert queue.unfinished_tasks == 2


@virtual_clock()
def test_a_scope_around_it_is_not_mistaken_for_its_timeout() -> None:
    queue = Queue[int](1)
    with pytest.raises(TimeoutError), gp.timeout(1):
        queue.get(timeout=5)
    queue.put(1)
    with pytest.raises(TimeoutError), gp.timeout(1):
        queue.put(2, timeout=5)
    assert drained(queue) == [1]


@pytest.mark.parametrize("timeout", [-1, -1e-9, float("nan"), -float("inf")])
def test_a_negative_timeout_is_refused(timeout: float) -> None:
    queue = Queue[int](1)
    with pytest.raises(ValueError, match="negative or NaN"):
        queue.get(timeout=timeout)
    queue.put(1)
    with pytest.raises(ValueError, match="negative or NaN"):
        queue.put(2, timeout=timeout)
    assert queue.unfinished_tasks == 1


def test_a_cancelled_getter_takes_nothing() -> None:
    queue = Queue[int]()
    first, second = gp.spawn(queue.get), gp.spawn(queue.get)
    wait_all_parked()
    first.cancel()
    queue.put(1)
    assert second.result() == 1
    assert first.cancelled
    assert waiting(queue) == 0


def test_a_getter_that_was_served_keeps_its_item() -> None:
    queue = Queue[int]()
    getter = gp.spawn(queue.get)
    wait_all_parked()
    queue.put(1)
    getter.cancel()
    assert getter.result() == 1


def test_a_cancelled_putter_has_put_nothing() -> None:
    queue = Queue[int](1)
    queue.put(1)
    putter = gp.spawn(queue.put, 2)
    wait_all_parked()
    putter.cancel()
    putter.join()
    assert drained(queue) == [1]
    assert queue.unfinished_tasks == 1
    assert waiting(queue) == 0


@virtual_clock()
def test_whatever_the_times_every_item_comes_once_or_not_at_all() -> None:
    dice = random.Random(3)
    for kind in KINDS:
        queue = kind(2)
        put: list[int] = []
        got: list[int] = []

        def putter(item: int, queue: Queue[Any] = queue, put: list[int] = put) -> None:
            gp.sleep(dice.randrange(20))
            try:
                queue.put(item, timeout=dice.randrange(6))
            except Full:
                return
            put.append(item)

        def getter(queue: Queue[Any] = queue, got: list[int] = got) -> None:
            gp.sleep(dice.randrange(20))
            try:
                got.append(queue.get(timeout=dice.randrange(6)))
            except Empty:
                return
            queue.task_done()

        for item in range(300):
            gp.spawn(putter, item)
            tasks = [gp.spawn(getter)]
            if not dice.randrange(5):
                spawn_later(dice.randrange(20), gp.spawn(getter).cancel)
        gp.sleep(100)
        assert all(task.done for task in tasks)
        assert waiting(queue) == 0
        rest = drained(queue)
        assert Counter(put) == Counter(got + rest)
        assert len(put) > 100
        assert queue.unfinished_tasks == len(rest)


def test_waiting_for_nobody_is_a_deadlock() -> None:
    with pytest.raises(gp.Deadlock, match=r"get from <PriorityQueue at .*: 0 items"):
        PriorityQueue[int]().get()
    queue = Queue[int](1)
    queue.put(1)
    with pytest.raises(gp.Deadlock, match=r"put into <Queue at .*: 1 of 1 items"):
        queue.put(2)
    with pytest.raises(gp.Deadlock, match="wait for <Event"):
        queue.join()


def test_it_says_what_it_is_and_who_waits() -> None:
    queue = Queue[int](2)
    assert f"{queue!r}" == f"<Queue at {id(queue._line):#x}: 0 of 2 items>"
    tasks = [gp.spawn(queue.get) for _ in range(3)]
    wait_all_parked()
    assert "0 of 2 items, 3 waiting to get" in repr(queue)
    queue.shutdown()
    assert "shut down" in repr(queue)
    for task in tasks:
        assert isinstance(task.exception(), ShutDown)
    assert "LifoQueue at" in repr(LifoQueue[int]())


def test_who_never_has_to_wait_lets_the_others_run() -> None:
    queue = Queue[int]()
    turns = 0

    def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            gp.yield_now()

    task = gp.spawn(other)
    for _ in range(10 * QUOTA):
        queue.put(1)
    for _ in range(10 * QUOTA):
        queue.get()
    assert turns >= 10
    task.cancel()
    task.join()


# -- join ----------------------------------------------------------------------------------------


def test_join_waits_until_all_is_reported_done() -> None:
    queue = Queue[int]()
    queue.join()
    for item in range(3):
        queue.put(item)
    joiners = [gp.spawn(queue.join) for _ in range(2)]
    wait_all_parked()
    for left in (2, 1, 0):
        queue.get()
        queue.task_done()
        wait_all_parked()
        assert [task.done for task in joiners] == [left == 0] * 2
    with pytest.raises(ValueError, match="more items were reported done than were put"):
        queue.task_done()
    queue.put(9)
    again = gp.spawn(queue.join)
    wait_all_parked()
    assert not again.done
    queue.task_done()
    again.result()


def test_join_waits_for_who_still_wants_to_put_no_longer_than_he_does() -> None:
    queue = Queue[int](1)
    queue.put(1)
    putter = gp.spawn(queue.put, 2)
    joiner = gp.spawn(queue.join)
    wait_all_parked()
    queue.get()
    queue.task_done()
    wait_all_parked()
    assert not joiner.done, "the second item is in the queue"
    queue.get()
    queue.task_done()
    joiner.result()
    putter.result()
    queue.put(3)
    putter, joiner = gp.spawn(queue.put, 4), gp.spawn(queue.join)
    wait_all_parked()
    queue.task_done()
    wait_all_parked()
    assert not joiner.done
    putter.cancel()
    joiner.result()


def test_a_cancelled_join_leaves_the_others() -> None:
    queue = Queue[int]()
    queue.put(1)
    first, second = gp.spawn(queue.join), gp.spawn(queue.join)
    wait_all_parked()
    first.cancel()
    queue.task_done()
    second.result()
    assert first.cancelled


# -- shutdown ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_shutdown_lets_getters_have_what_is_left(kind: type[Queue[Any]]) -> None:
    queue = kind(2)
    for item in (1, 1):
        queue.put(item)
    putters = [gp.spawn(queue.put, 9) for _ in range(2)]
    wait_all_parked()
    queue.shutdown()
    queue.shutdown()
    for task in putters:
        error = task.exception()
        assert isinstance(error, ShutDown)
        assert f"nothing can be put into <{kind.__name__} at" in str(error)
    with pytest.raises(ShutDown):
        queue.put_nowait(2)
    with pytest.raises(ShutDown):
        queue.put(2, timeout=1)
    assert [queue.get(), queue.get_nowait()] == [1, 1]
    for get in (queue.get, queue.get_nowait, lambda: queue.get(timeout=1)):
        with pytest.raises(ShutDown, match="nothing is left in"):
            get()
    assert queue.unfinished_tasks == 2
    queue.task_done()
    queue.task_done()
    queue.join()


def test_shutdown_wakes_all_getters() -> None:
    queue = Queue[int]()
    getters = [gp.spawn(queue.get) for _ in range(3)]
    wait_all_parked()
    queue.shutdown()
    assert [type(task.exception()) for task in getters] == [ShutDown] * 3
    assert waiting(queue) == 0


def test_an_immediate_shutdown_drops_what_is_left_and_counts_it_as_done() -> None:
    queue = Queue[int]()
    for item in range(3):
        queue.put(item)
    joiner = gp.spawn(queue.join)
    assert queue.get() == 0
    wait_all_parked()
    queue.shutdown()
    queue.shutdown(immediate=True)
    assert queue.empty()
    wait_all_parked()
    assert not joiner.done, "the item that somebody works on is not done"
    queue.task_done()
    joiner.result()
    with pytest.raises(ShutDown):
        queue.get()


# -- items that can't be compared ----------------------------------------------------------------


def test_an_item_that_cannot_be_compared_is_refused() -> None:
    queue = PriorityQueue[Any]()
    for item in (5, 2, 8, 1):
        queue.put(item)
    for put in (queue.put, queue.put_nowait, lambda item: queue.put(item, timeout=1)):
        with pytest.raises(TypeError):
            put("x")
    assert queue.qsize() == queue.unfinished_tasks == 4
    assert drained(queue) == [1, 2, 5, 8]


class Touchy:
    """Compares until its patience is over."""

    patience = 1000

    def __init__(self, number: int) -> None:
        self.number = number

    def __lt__(self, other: Touchy) -> bool:
        Touchy.patience -= 1
        if Touchy.patience < 0:
            raise ArithmeticError
        return self.number < other.number


@pytest.mark.parametrize("patience", range(8))
def test_a_comparison_that_raises_anywhere_loses_nothing(patience: int) -> None:
    queue = PriorityQueue[Touchy]()
    Touchy.patience = 10**6
    numbers = list(range(20, 0, -1))
    for number in numbers:
        queue.put(Touchy(number))
    Touchy.patience = patience
    for _ in range(3):
        try:
            queue.put(Touchy(0))
        except ArithmeticError:
            break
        numbers.append(0)
    else:
        pytest.fail("no comparison has raised")
    assert queue.qsize() == len(numbers)
    Touchy.patience = patience

    def take_all() -> None:
        while True:
            numbers.remove(queue.get().number)

    with pytest.raises(ArithmeticError):
        take_all()
    Touchy.patience = 10**6
    assert queue.qsize() == len(numbers)
    assert sorted(item.number for item in drained(queue)) == sorted(numbers)


@pytest.mark.parametrize("extra", [{}, {"timeout": 60}])
def test_who_waited_for_room_is_refused_himself(extra: dict[str, Any]) -> None:
    queue = PriorityQueue[Any](2)
    queue.put(1)
    queue.put(2)
    putters = [gp.spawn(queue.put, item, **extra) for item in ("x", "y", 3, "z")]
    wait_all_parked()
    assert queue.get() == 1, "nobody else is told"
    assert isinstance(putters[0].exception(), TypeError)
    assert isinstance(putters[1].exception(), TypeError)
    assert putters[2].result() is None
    assert queue.full(), "the room went to the next at once"
    assert queue.unfinished_tasks == 4
    assert queue.get() == 2
    assert isinstance(putters[3].exception(), TypeError)
    assert drained(queue) == [3]
    assert waiting(queue) == 0


def test_all_who_waited_are_refused() -> None:
    queue = PriorityQueue[Any](2)
    queue.put(1)
    queue.put(2)
    putters = [gp.spawn(queue.put, item) for item in "xyz"]
    getters = [gp.spawn(queue.get) for _ in range(3)]
    wait_all_parked()
    assert [task.result() for task in getters[:2]] == [1, 2]
    assert [type(task.exception()) for task in putters] == [TypeError] * 3
    assert queue.unfinished_tasks == 2
    queue.put("w")
    assert getters[2].result() == "w"
    assert waiting(queue) == 0


# -- hubs and threads ----------------------------------------------------------------------------


def in_threads(*functions: Callable[[], None]) -> None:
    threads = [threading.Thread(target=fn) for fn in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def produce(queue: Queue[Any], who: int, count: int) -> None:
    for number in range(count):
        queue.put((number, who))


def consume(queue: Queue[Any], got: list[tuple[int, int]]) -> None:
    while True:
        try:
            got.append(queue.get())
        except ShutDown:
            return
        queue.task_done()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("maxsize", [0, 1, 7])
def test_two_hubs_lose_and_double_nothing(kind: type[Queue[Any]], maxsize: int) -> None:
    queue = kind(maxsize)
    parts: list[list[tuple[int, int]]] = [[] for _ in range(4)]

    def main() -> None:
        here, there = gp.hubs()
        consumers = [gp.spawn_on((here, there)[n % 2], consume, queue, parts[n]) for n in range(4)]
        producers = [gp.spawn_on((here, there)[n % 2], produce, queue, n, 300) for n in range(4)]
        for task in producers:
            task.result()
        queue.join()
        queue.shutdown()
        for task in consumers:
            task.result()

    gp.run(main, hubs=2)
    everything = [item for part in parts for item in part]
    assert sorted(everything) == sorted((number, who) for number in range(300) for who in range(4))
    if kind is Queue:
        for part in parts:
            for who in range(4):
                numbers = [number for number, by in part if by == who]
                assert numbers == sorted(numbers), "each producer's items stay in order"


def test_plain_threads_lose_and_double_nothing() -> None:
    queue = Queue[Any](3)
    parts: list[list[tuple[int, int]]] = [[], []]
    consumers = [
        threading.Thread(target=consume, args=(queue, part), name=f"consumer-{n}")
        for n, part in enumerate(parts)
    ]
    for thread in consumers:
        thread.start()
    in_threads(*(lambda n=n: produce(queue, n, 300) for n in range(3)))
    queue.join()
    queue.shutdown()
    for thread in consumers:
        thread.join()
    assert sorted(parts[0] + parts[1]) == sorted((n, who) for n in range(300) for who in range(3))


def test_deadlines_that_race_the_handover_lose_nothing() -> None:
    queue = Queue[int](1)
    got: list[int] = []
    put: list[int] = []

    def main() -> None:
        here, there = gp.hubs()

        def getter() -> None:
            while len(put) < 300 or not queue.empty():
                try:
                    got.append(queue.get(timeout=1e-5))
                except Empty:
                    gp.yield_now()

        def putter() -> None:
            for item in range(300):
                while True:
                    try:
                        queue.put(item, timeout=1e-5)
                        break
                    except Full:
                        gp.yield_now()
                put.append(item)

        tasks = [gp.spawn_on(there, putter), gp.spawn_on(here, getter)]
        for task in tasks:
            task.result()

    gp.run(main, hubs=2)
    assert got == list(range(300))
    assert queue.unfinished_tasks == 300


# -- leaks ---------------------------------------------------------------------------------------


class Item:
    pass


@pytest.mark.parametrize("kind", [Queue, LifoQueue])
def test_it_keeps_no_reference_to_an_item_that_is_gone(kind: type[Queue[Any]]) -> None:
    queue = kind(1)
    queue.put(Item())
    putter = gp.spawn(queue.put, Item())
    wait_all_parked()
    seen = [weakref.ref(queue.get()), weakref.ref(queue.get())]
    putter.join()
    getter = gp.spawn(queue.get)
    wait_all_parked()
    queue.put(Item())
    seen.append(weakref.ref(getter.result()))
    queue.put(Item())
    queue.shutdown(immediate=True)
    del getter, putter
    gc.collect()
    assert [each() for each in seen] == [None] * 3


def test_twenty_thousand_cancelled_waits_leave_nothing() -> None:
    queue = Queue[int](1)
    queue.put(1)
    for _ in range(20):
        tasks = [gp.spawn(queue.put, 2) for _ in range(500)]
        wait_all_parked()
        for task in tasks:
            task.cancel()
        wait_all_parked()
        assert waiting(queue) == 0
    queue.get()
    for _ in range(20):
        getters = [gp.spawn(queue.get) for _ in range(500)]
        wait_all_parked()
        for getter in getters:
            getter.cancel()
        wait_all_parked()
        assert waiting(queue) == 0
    assert queue.unfinished_tasks == 1


# -- under many seeds ----------------------------------------------------------------------------


@races(seeds=300)
def test_no_interleaving_loses_an_item_or_a_count() -> None:
    kind = random.choice(KINDS)
    queue = kind(random.choice([0, 1, 2]))
    put: list[int] = []
    got: list[int] = []

    def putter(first: int) -> None:
        for item in range(first, first + 4):
            preemption_point()
            with gp.move_on_after(random.choice([None, 0.001, 0.002])):
                try:
                    queue.put(item, timeout=random.choice([None, 0, 0.001]))
                except (Full, ShutDown):
                    continue
                put.append(item)

    def getter() -> None:
        while True:
            preemption_point()
            with gp.move_on_after(random.choice([None, 0.001, 0.002])):
                try:
                    got.append(queue.get(timeout=random.choice([None, 0, 0.001])))
                except Empty:
                    continue
                except ShutDown:
                    return
                preemption_point()
                queue.task_done()

    putters = [gp.spawn(putter, 10 * n) for n in range(3)]
    getters = [gp.spawn(getter) for _ in range(3)]
    if random.random() < 0.5:
        random.choice(putters).cancel()
    for task in putters:
        task.join()
    done = random.random() < 0.5
    if done:
        queue.join()
        assert queue.unfinished_tasks == 0
    before = queue.qsize()
    queue.shutdown(immediate=random.random() < 0.3)
    for task in getters:
        task.result()
    queue.join()
    assert waiting(queue) == 0
    assert len(set(got)) == len(got)
    assert set(got) <= set(put)
    assert len(put) - len(got) <= before
    if done:
        assert sorted(got) == sorted(put)
