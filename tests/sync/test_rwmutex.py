"""RWMutex: readers together, writers alone, both in one line."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenpump as gp
from greenpump.hub.local import this_hub
from greenpump.sync.rwmutex import RWMutex
from greenpump.testing import virtual_clock, wait_all_parked


def is_free(rw: RWMutex) -> bool:
    return not rw._writing and not rw._readers and not rw._line and not rw._granted


# -- one rule after the other --------------------------------------------------------------------


def test_readers_are_inside_together_and_writers_alone() -> None:
    rw = RWMutex()
    with rw.read(), rw.read():
        assert repr(rw).endswith(": 2 read>")
        assert not rw.try_acquire_write()
        assert rw.try_acquire_read()
        rw.release_read()
    with rw.write():
        assert repr(rw).endswith(": one writes>")
        assert not rw.try_acquire_write()
        assert not rw.try_acquire_read()
    assert repr(rw).endswith(": unlocked>")
    assert is_free(rw)


@pytest.mark.parametrize("block", [RWMutex.read, RWMutex.write])
def test_an_error_in_the_block_unlocks_it(block: Callable[[RWMutex], Any]) -> None:
    rw = RWMutex()
    with pytest.raises(KeyError), block(rw):
        raise KeyError
    assert is_free(rw)


def test_a_waiting_writer_holds_new_readers_back() -> None:
    rw = RWMutex()
    rw.acquire_read()
    writer = gp.spawn(rw.acquire_write)
    wait_all_parked()
    reader = gp.spawn(rw.acquire_read)
    wait_all_parked()
    assert not reader.done
    assert not rw.try_acquire_read()
    rw.release_read()
    assert writer.result()
    wait_all_parked()
    assert not reader.done
    rw.release_write()
    assert reader.result()
    assert repr(rw).endswith(": 1 read>")


def test_the_readers_go_on_when_the_writer_before_them_gives_up() -> None:
    rw = RWMutex()
    rw.acquire_read()
    writer = gp.spawn(rw.acquire_write)
    readers = [gp.spawn(rw.acquire_read) for _ in range(3)]
    wait_all_parked()
    writer.cancel()
    for reader in readers:
        assert reader.result()
    assert rw._readers == 4
    with virtual_clock():
        assert rw.acquire_write(timeout=1) is False
        assert rw.acquire_read(timeout=1) is True


def test_consecutive_readers_go_in_together_and_the_next_writer_waits_for_them() -> None:
    rw, order = RWMutex(), []

    def reader(name: str) -> None:
        with rw.read():
            order.append(f"{name} in")
            gp.yield_now()
            order.append(f"{name} out")

    def writer(name: str) -> None:
        with rw.write():
            order.append(f"{name} in")
            gp.yield_now()
            order.append(f"{name} out")

    rw.acquire_write()
    tasks = [gp.spawn(reader if name in "ABD" else writer, name) for name in "ABCDE"]
    wait_all_parked()
    rw.release_write()
    for task in tasks:
        task.join()
    assert order[:2] == ["A in", "B in"]
    assert order[2:] == [
        *("A out", "B out", "C in", "C out", "D in", "D out", "E in", "E out"),
    ]


def test_what_is_not_held_cannot_be_released() -> None:
    rw = RWMutex()
    with pytest.raises(RuntimeError, match=r"release_read of <RWMutex .*>, which nobody reads"):
        rw.release_read()
    with pytest.raises(RuntimeError, match=r"release_write of <RWMutex .*>, which nobody writes"):
        rw.release_write()
    with rw.read(), pytest.raises(RuntimeError, match="nobody writes"):
        rw.release_write()
    with rw.write(), pytest.raises(RuntimeError, match="nobody reads"):
        rw.release_read()
    assert is_free(rw)


def test_a_reader_that_wants_to_write_waits_for_itself() -> None:
    rw = RWMutex()
    with rw.read(), pytest.raises(gp.Deadlock, match=r"write <RWMutex .*: 1 read, 1 waiting>"):
        rw.acquire_write()
    with rw.write(), pytest.raises(gp.Deadlock, match=r"read <RWMutex .*: one writes, 1 waiting>"):
        rw.acquire_read()
    assert is_free(rw)


# -- against a plain model -----------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *("acquire_read", "acquire_read", "acquire_write", "try_acquire_read"),
                *("try_acquire_write", "release", "release"),
            ]
        ).map(lambda name: (name, 0)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
    ),
    max_size=40,
)


@settings(max_examples=150)
@given(STEPS)
def test_it_does_what_the_model_does(steps: list[tuple[str, int]]) -> None:
    rw, inside = RWMutex(), list[str]()
    line: list[tuple[int, str]] = []
    tasks: dict[int, gp.Task[Any]] = {}

    def fits(kind: str) -> bool:
        return not inside or (kind == "read" and inside[0] == "read")

    for op, (name, which) in enumerate(steps):
        kind = name.rpartition("_")[2]
        if name.startswith("try"):
            can = not line and fits(kind)
            assert getattr(rw, name)() is can
            inside += [kind] if can else []
        elif name.startswith("acquire"):
            tasks[op] = gp.spawn(getattr(rw, name))
            line.append((op, kind))
        elif name == "release" and inside:
            getattr(rw, f"release_{inside.pop()}")()
        elif name == "cancel" and tasks:
            victim = list(tasks)[which % len(tasks)]
            tasks[victim].cancel()
            line = [(other, want) for other, want in line if other != victim]
        while line and fits(line[0][1]):
            inside.append(line.pop(0)[1])
        wait_all_parked()
        assert (rw._readers, rw._writing) == (inside.count("read"), "write" in inside)
        assert [op for op, task in tasks.items() if not task.done] == [op for op, _ in line]
    for task in tasks.values():
        task.cancel()
        task.join()
    for kind in ["write"] * rw._writing + ["read"] * rw._readers:
        getattr(rw, f"release_{kind}")()
    assert is_free(rw)


# -- several hubs and threads --------------------------------------------------------------------


class Book:
    """Two numbers that are equal whenever nobody writes."""

    def __init__(self) -> None:
        self.rw = RWMutex()
        self.left = self.right = 0

    def write(self, rest: Callable[[], object]) -> None:
        self.left += 1
        rest()
        self.right += 1

    def read(self, rest: Callable[[], object]) -> None:
        left = self.left
        rest()
        assert left == self.right


@pytest.mark.parametrize("seed", range(3))
def test_two_hubs_with_cancels_and_deadlines(seed: int) -> None:
    book, chance, rw = Book(), random.Random(seed), RWMutex()
    book.rw = rw

    def shielded_yield() -> None:
        with gp.shield():
            gp.yield_now()

    def worker() -> int:
        written = 0
        for n in range(200):
            rest = shielded_yield if n % 2 else int
            with gp.move_on_after(chance.choice([0.00005, 0.0005, None])):
                if chance.random() < 0.3:
                    if rw.acquire_write(timeout=chance.choice([0.0001, None])):
                        book.write(rest)
                        written += 1
                        rw.release_write()
                elif rw.acquire_read(timeout=chance.choice([0.0001, None])):
                    book.read(rest)
                    rw.release_read()
        return written

    def pass_through() -> None:
        rw.acquire_write()
        rw.release_write()

    def main() -> int:
        hubs = gp.hubs()
        tasks = [gp.spawn_on(hub, worker) for hub in hubs for _ in range(4)]
        passers = []
        for n in range(100):
            passers.append(gp.spawn_on(hubs[n % 2], pass_through))
            gp.yield_now()
            chance.choice(passers).cancel()
        for passer in passers:
            passer.join()
        return sum(task.result() for task in tasks)

    assert gp.run(main, hubs=2) == book.left == book.right > 0
    assert is_free(rw)


def test_plain_threads_read_and_write() -> None:
    book = Book()

    def thread(writes: bool) -> None:
        for _ in range(500):
            if writes:
                with book.rw.write():
                    book.write(int)
            else:
                with book.rw.read():
                    book.read(int)
        this_hub().close()

    threads = [threading.Thread(target=thread, args=(n % 2 == 0,)) for n in range(5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert book.left == book.right == 1500
    assert is_free(book.rw)
