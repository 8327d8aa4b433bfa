"""Each workload once, small, with the peers that need nothing but Python and a C toolchain."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from bench import interpreters, registry, spread
from bench.__main__ import measuring, parser
from bench.outcome import FailedError, MissingError
from bench.registry import Peer
from bench.runner import chosen, pick_cores
from bench.workload import Case, Workload
from bench.workloads import connections, crowd, echo

# The first test that needs Go waits for Go's library to be compiled.
pytestmark = pytest.mark.timeout(240)

WORKLOADS = registry.all_workloads()

SMALL = {
    "accept": ["--connections", "5", "--messages", "200", "--warmup", "0"],
    "chat": [
        *("--subscribers", "5", "--publishers", "2", "--window", "3"),
        *("--messages", "200", "--warmup", "0"),
    ],
    "connections": ["--connections", "50", "--seconds", "0.1"],
    "crowd": ["--count", "60", "--processes", "2", "--broadcasts", "2"],
    "echo": ["--connections", "5", "--messages", "200", "--warmup", "0"],
    "hubs": ["--items", "800"],
    "memory": ["--count", "1000"],
    "pending": ["--timers", "300"],
    "sync": ["--messages", "50", "--locks", "50", "--selects", "50", "--waiters", "50"],
    "subscribers": ["--count", "50"],
    "ring": ["--pairs", "10", "--active", "3", "--writes", "300"],
    "tasks": ["--tasks", "50", "--switches", "50", "--timeouts", "50"],
    "timers": ["--sleepers", "2", "--seconds", "0.1", "--longest-ms", "5"],
    "tls": ["--connections", "3", "--size", "64,100000", "--messages", "60", "--warmup", "0"],
    "udp": ["--clients", "3", "--size", "64", "--messages", "200", "--warmup", "0"],
}
# greenpump and what comes with Python; the others may not be installed.
STANDARD = {
    "asyncio",
    "asyncio_protocol",
    "asyncio_sock",
    "asyncio_streams",
    "c",
    "epoll",
    "greenpump",
    "greenpump_detached",
    "greenpump_later",
    "libevent",
    "threading",
}
# What nobody needs for working on greenpump, but whose peers must not rot where it is.
if shutil.which("go"):
    STANDARD.add("go")
if interpreters.freethreaded() is not None:
    STANDARD |= {
        "apart_nogil",
        "apart_nogil_2processes",
        "greenpump_nogil",
        "greenpump_nogil_2hubs",
        "threading_nogil",
    }


def small_cases(workload: Workload) -> list[Case]:
    args = parser(WORKLOADS).parse_args([workload.name, *SMALL[workload.name]])
    return list(workload.cases(args))


def everything() -> list[object]:
    return [
        pytest.param(workload, case, peer, id=f"{workload.name}-{number}-{peer.name}")
        for workload in WORKLOADS.values()
        for number, case in enumerate(small_cases(workload))
        for peer in chosen(case, STANDARD)
    ]


@pytest.mark.usefixtures("gcc")
@pytest.mark.parametrize(("workload", "case", "peer"), everything())
def test_measures_every_metric(
    workload: Workload, case: Case, peer: Peer, require: Callable[[str, object, str], None]
) -> None:
    try:
        sample = workload.measure(case, peer, pick_cores())
    except MissingError as error:
        require(error.what, None, error.install)
        raise
    assert {metric.key for metric in workload.metrics} <= set(sample)
    # Fifty subscribers are lost in what a heap gives back meanwhile.
    assert sample[workload.metrics[0].key] >= 0 or workload.name == "subscribers"


@pytest.mark.usefixtures("gcc")
def test_an_fd_that_stays_open_fails_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = WORKLOADS["connections"]
    (case,) = small_cases(workload)
    (peer,) = chosen(case, ["epoll"])
    steady = connections.steady_fds
    monkeypatch.setattr(connections, "CLOSE_PATIENCE", 0.2)
    monkeypatch.setattr(connections, "steady_fds", lambda pid: steady(pid) - 2)
    with pytest.raises(FailedError, match="2 fds still open"):
        workload.measure(case, peer, pick_cores())


def test_connections_over_processes_are_measured_when_all_are_open(
    monkeypatch: pytest.MonkeyPatch, gcc: None
) -> None:
    workload = WORKLOADS["connections"]
    monkeypatch.setattr(spread, "IN_A_PROCESS", 20)
    args = parser(WORKLOADS).parse_args(["connections", "--connections", "50", "--seconds", "0.1"])
    (case,) = workload.cases(args)
    assert case.label == "50 connections over 3 processes, 64 B"
    (peer,) = chosen(case, ["epoll"])
    sample = workload.measure(case, peer, pick_cores())
    assert sample["messages"] >= 50
    assert sample["leaked_fds"] == 0


@pytest.mark.parametrize("option", ["--pairs", "--writes"])
def test_a_ring_with_more_bytes_than_pairs_or_writes_is_refused(option: str) -> None:
    args = parser(WORKLOADS).parse_args(["ring", option, "50", "--active", "100"])
    with pytest.raises(SystemExit, match="--active"):
        WORKLOADS["ring"].cases(args)


def test_more_connections_than_a_process_may_have_are_spread(
    monkeypatch: pytest.MonkeyPatch, gcc: None
) -> None:
    workload = WORKLOADS["memory"]
    monkeypatch.setattr(spread, "IN_A_PROCESS", 40)
    args = parser(WORKLOADS).parse_args(["memory", "--count", "100"])
    case = workload.cases(args)[-1]
    assert (case.label, case.params["processes"]) == (
        "an idle connection (of 100 over 3 processes)",
        3,
    )
    (peer,) = chosen(case, ["epoll"])
    assert workload.measure(case, peer, pick_cores())["kib"] >= 0


def test_a_crowd_that_is_more_than_one_load_generator_holds(
    monkeypatch: pytest.MonkeyPatch, gcc: None, require: Callable[[str, object, str], None]
) -> None:
    workload = WORKLOADS["crowd"]
    monkeypatch.setattr(spread, "IN_A_PROCESS", 25)
    monkeypatch.setattr(crowd, "PRIMING", 5)
    arguments = ["crowd", "--count", "60", "--processes", "3", "--transport", "events"]
    (case,) = workload.cases(parser(WORKLOADS).parse_args(arguments))
    assert case.label == "60 subscribers by events over 3 processes"
    (peer,) = chosen(case, ["greenpump"])
    try:
        sample = workload.measure(case, peer, pick_cores())
    except MissingError as error:
        require(error.what, None, error.install)
        raise
    assert 0 < sample["p50_ms"] <= sample["p99_ms"] <= sample["last_ms"]
    assert sample["ack_ms"] > 0


def test_a_crowd_without_redis_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = WORKLOADS["crowd"]
    (case,) = small_cases(workload)
    (peer,) = chosen(case, ["greenpump"])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingError, match="redis-server"):
        workload.measure(case, peer, pick_cores())


def test_a_crowd_that_its_processes_have_no_fds_for_is_refused() -> None:
    args = parser(WORKLOADS).parse_args(["crowd", "--count", "100000", "--processes", "5"])
    with pytest.raises(SystemExit, match="more --processes than 5"):
        WORKLOADS["crowd"].cases(args)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], echo.DEFAULT),
        (["--connections", "1"], [(1, 64)]),
        (["--size", "1,2"], [(50, 1), (500, 1), (50, 2), (500, 2)]),
        (["--full", "--size", "64"], [(1, 64), (50, 64), (500, 64), (5000, 64)]),
    ],
    ids=str,
)
def test_the_connections_and_sizes_of_echo(
    arguments: list[str], expected: list[tuple[int, int]]
) -> None:
    args = parser(WORKLOADS).parse_args(["echo", *arguments])
    assert list(echo.combinations(args)) == list(expected)


def test_all_of_echo_is_every_size_with_every_number_of_connections() -> None:
    args = parser(WORKLOADS).parse_args(["echo", "--full"])
    labels = [case.label for case in WORKLOADS["echo"].cases(args)]
    assert len(set(labels)) == 12
    assert labels[0] == "1 connection, 64 B"
    assert labels[-1] == "5,000 connections, 100 KiB"


def test_the_command_that_is_kept_measures_the_same_anywhere() -> None:
    given = ["echo", "--full", "--out", "/tmp/there", "--repeats", "3"]
    assert measuring(given) == "python -m bench echo --full --repeats 3"
    assert measuring(["ring", "--out=/tmp/there"]) == "python -m bench ring"


@pytest.mark.parametrize("name", WORKLOADS)
def test_no_two_peers_of_a_case_have_one_name(name: str) -> None:
    """A case may have several roles, and results and targets go by the name alone."""
    workload = WORKLOADS[name]
    args = parser(WORKLOADS).parse_args([name])
    for case in workload.cases(args):
        names = [peer.name for peer in chosen(case, None)]
        assert len(names) == len(set(names)), case.label
