"""The ring where it is more than one: shares, several processes, several hubs, no GIL."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench import interpreters, registry
from bench.__main__ import parser
from bench.outcome import FailedError, MissingError
from bench.registry import Peer
from bench.runner import pick_cores
from bench.workload import Bench, Case
from bench.workloads import ring
from bench.workloads.ring import WORKLOAD, share, together

SMALL = ["--pairs", "10", "--active", "4", "--writes", "300"]
KEYS = {"events", "cpu_us", "wall_us", "throughput"}


def cases(*arguments: str) -> list[Case]:
    workloads = registry.all_workloads()
    return list(WORKLOAD.cases(parser(workloads).parse_args(["ring", *arguments])))


def peer(name: str) -> Peer:
    return next(each for each in registry.peers(["ring"]) if each.name == name)


# -- points ------------------------------------------------------------------------------------


def test_the_points_are_those_that_can_be() -> None:
    points = [(case.params["pairs"], case.params["active"]) for case in cases()]
    assert points == [(100, 100), (1000, 100), (9900, 100), (1000, 1000), (9900, 1000)]
    full = {(case.params["pairs"], case.params["active"]) for case in cases("--full")}
    assert full > set(points)
    assert (9900, 1) in full
    assert (100, 1000) not in full


def test_as_many_writes_as_pairs_at_least_and_five_rounds_of_warming_up() -> None:
    (case,) = cases("--pairs", "9900", "--active", "1", "--writes", "500")
    assert (case.params["writes"], case.params["warmup"]) == (9900, 49500)


def test_one_active_pair_is_for_one_core() -> None:
    (case,) = cases("--pairs", "10", "--active", "1")
    assert case.lanes == (1,)


def test_more_pairs_than_fds_take_more_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda what: (1024, 20_000))
    assert [ring.processes_for(pairs) for pairs in (100, 9900, 9901, 99_000)] == [1, 1, 2, 10]
    assert cases("--pairs", "99000", "--active", "10")
    with pytest.raises(SystemExit, match="processes"):
        cases("--pairs", "99000", "--active", "9")
    monkeypatch.setattr(resource, "getrlimit", lambda what: (1024, resource.RLIM_INFINITY))
    assert ring.processes_for(99_000) == 1


@pytest.mark.parametrize(("whole", "parts"), [(10, 1), (10, 3), (9901, 2), (3, 3)])
def test_shares_are_even_and_make_the_whole(whole: int, parts: int) -> None:
    shares = [share(whole, parts, number) for number in range(parts)]
    assert sum(shares) == whole
    assert max(shares) - min(shares) <= 1


def test_of_several_the_slowest_counts_and_their_cpu_time_adds_up() -> None:
    fast = {"events": 100.0, "cpu_us": 2.0, "wall_us": 2.0}
    slow = {"events": 300.0, "cpu_us": 4.0, "wall_us": 5.0}
    whole = together([fast, slow])
    assert whole["events"] == 400
    assert whole["cpu_us"] == pytest.approx((200 + 1200) / 400)
    assert whole["wall_us"] == pytest.approx(1500 / 400)
    assert whole["throughput"] == pytest.approx(1e6 * 400 / 1500)


# -- peers on several cores ---------------------------------------------------------------------


def test_a_peer_that_scales_is_another_contestant_on_several_cores() -> None:
    one = peer("greenpump")
    two = one.on(2)
    assert one.on(1) is one
    assert (two.name, two.lanes, two.module) == ("greenpump_2processes", 2, one.module)
    assert "2 processes" in two.about
    assert peer("greenpump_nogil").on(4).name == "greenpump_nogil_4hubs"
    assert peer("asyncio").scales_by == ""


def test_who_needs_another_interpreter_says_so() -> None:
    needing = {each.name for each in registry.peers(["ring"]) if each.interpreter}
    assert needing == {"greenpump_nogil", "greenpump_detached_nogil"}


@pytest.mark.parametrize("name", ["greenpump", "libevent"])
@pytest.mark.usefixtures("gcc")
def test_two_processes_make_one_sample(
    name: str, require: Callable[[str, object, str], None]
) -> None:
    (case,) = cases(*SMALL)
    try:
        sample = WORKLOAD.measure(case, peer(name).on(2), pick_cores())
    except MissingError as error:
        require(error.what, None, error.install)
        raise
    assert set(sample) >= KEYS
    assert sample["events"] == 300


def test_pairs_beyond_the_limit_are_spread_on_one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "processes_for", lambda pairs: 3)
    (case,) = cases(*SMALL)
    sample = WORKLOAD.measure(case, peer("epoll"), pick_cores())
    assert sample["events"] == 300


@pytest.mark.parametrize("hubs", [1, 2])
def test_a_ring_for_each_hub(hubs: int) -> None:
    """With this interpreter, whatever it is: a GIL makes it slow, not wrong."""
    (case,) = cases(*SMALL)
    here = replace(peer("greenpump_nogil"), interpreter="").on(hubs)
    sample = WORKLOAD.measure(case, here, Bench(None, None))
    assert sample["events"] == 300


def test_a_process_that_dies_before_the_start_is_told() -> None:
    (case,) = cases(*SMALL)
    broken = replace(peer("greenpump").on(2), single="that_nobody_wrote")
    with pytest.raises(FailedError, match="ModuleNotFoundError"):
        WORKLOAD.measure(case, broken, pick_cores())


# -- the other interpreter -----------------------------------------------------------------------


def fake_environment(folder: Path, version: str, program: str) -> None:
    venv = folder / f"venv{version}"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(program)
    (venv / ".complete").touch()


def test_without_it_its_peers_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENPUMP_CACHE", str(tmp_path))
    (case,) = cases(*SMALL)
    with pytest.raises(MissingError, match="make test-freethreaded"):
        WORKLOAD.measure(case, peer("greenpump_nogil"), pick_cores())


def test_the_newest_that_is_complete_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREENPUMP_CACHE", str(tmp_path))
    (tmp_path / "venv3.14").mkdir()
    fake_environment(tmp_path, "3.13", sys.executable)
    assert interpreters.freethreaded() == tmp_path / "venv3.13" / "bin" / "python"
    (tmp_path / "venv3.14" / ".complete").touch()
    assert interpreters.freethreaded() == tmp_path / "venv3.14" / "bin" / "python"


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "HOME"])
def test_it_is_looked_for_where_ci_puts_it(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GREENPUMP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    cache = tmp_path / ("greenpump" if variable == "XDG_CACHE_HOME" else ".cache/greenpump")
    fake_environment(cache, "3.13", sys.executable)
    assert interpreters.freethreaded() == cache / "venv3.13" / "bin" / "python"


def test_a_python_with_a_gil_cannot_pass_for_one_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or PYTHON_GIL=0 would be ignored, and the figures would be of another thing."""
    if not getattr(sys, "_is_gil_enabled", lambda: False)():
        pytest.skip("needs a CPython 3.13 or later with its GIL: older ones ignore PYTHON_GIL")
    monkeypatch.setenv("GREENPUMP_CACHE", str(tmp_path))
    fake_environment(tmp_path, "3.13", sys.executable)
    (case,) = cases(*SMALL)
    with pytest.raises(FailedError, match="GIL"):
        WORKLOAD.measure(case, peer("greenpump_nogil"), pick_cores())


def test_where_it_is_it_plays() -> None:
    if interpreters.freethreaded() is None:
        pytest.skip(f"needs a free-threaded CPython: {interpreters.HOW_TO_MAKE}")
    (case,) = cases(*SMALL)
    hubs = min(2, len(os.sched_getaffinity(0)))
    sample = WORKLOAD.measure(case, peer("greenpump_nogil").on(hubs), pick_cores())
    assert set(sample) >= KEYS
