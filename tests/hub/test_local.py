"""Which hub is this thread's, and what a thread that ends leaves behind."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable

import pytest

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.hub.local import hub_or_none, hubs, this_hub


def in_thread(fn: Callable[[], None]) -> None:
    thread = threading.Thread(target=fn)
    thread.start()
    thread.join()


def test_made_at_first_use_and_kept(hub: Hub) -> None:
    seen: list[Hub | None] = []

    def body() -> None:
        seen.append(hub_or_none())
        made = this_hub()
        seen.extend([made, this_hub(), hub_or_none()])
        assert made in hubs
        made.close()
        seen.append(hub_or_none())

    in_thread(body)
    assert seen[0] is None
    assert isinstance(seen[1], Hub)
    assert seen[1] is seen[2] is seen[3] is not hub
    assert seen[4] is None
    assert hubs == [hub]


@pytest.mark.parametrize("close", [True, False])
def test_a_thread_that_ends_leaves_nothing(close: bool) -> None:
    refs: list[weakref.ref[object]] = []
    unwound = []

    def parked() -> None:
        try:
            gp.sleep(3600)
        finally:
            unwound.append(threading.get_ident())

    def body() -> None:
        gp.spawn(parked)
        for _ in range(5):
            gp.spawn(gp.yield_now).join()
        hub = this_hub()
        refs.append(weakref.ref(hub))
        refs.extend(weakref.ref(worker) for worker in hub.workers)
        if close:
            hub.close()

    before = len(hubs)
    in_thread(body)
    gc.collect()
    assert len(hubs) == before
    assert len(refs) > 1
    assert [ref() for ref in refs] == [None] * len(refs)
    assert len(unwound) == 1
    assert unwound != [threading.get_ident()]


def test_a_clean_up_as_its_thread_ends_makes_no_second_hub(hub: Hub) -> None:
    said: list[str] = []

    def sleeper() -> None:
        try:
            gp.sleep(60)
        finally:
            try:
                gp.sleep(0.001)
            except gp.HubError as error:
                said.append(str(error))

    def body() -> None:
        gp.spawn(sleeper)
        gp.yield_now()

    in_thread(body)
    gc.collect()
    assert hubs == [hub]
    assert len(said) == 1
    assert "has ended" in said[0]
