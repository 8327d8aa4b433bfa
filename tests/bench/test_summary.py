"""Medians, ratios, ranking and verdicts: arithmetic, nothing is run."""

from __future__ import annotations

import pytest

from bench.summary import CaseResult, PeerResult, Spread, ranked, verdicts
from bench.workload import Case, Metric, Target

CPU = Metric("cpu_us", "CPU µs")
LATE = Metric("late_us", "late µs")
TARGETS = (Target("c", 1.5), Target("gevent", 0.5), Target("uvloop", 1.2))


def peer(name: str, *values: float) -> PeerResult:
    return PeerResult(name, samples=[{"cpu_us": value} for value in values])


def result(*peers: PeerResult, targets: tuple[Target, ...] = ()) -> CaseResult:
    return CaseResult(Case("50 connections", ("echo",), {}, targets), list(peers))


def test_spread_is_median_and_extremes() -> None:
    assert Spread.of([3.0, 1.0, 9.0]) == Spread(median=3.0, min=1.0, max=9.0)
    assert Spread.of([1.0, 2.0]).median == 1.5


def test_ratio_is_taken_within_each_round_so_drift_does_not_count() -> None:
    """The machine was half as fast in the second round, and a tenth in one sample."""
    case = result(peer("greenpump", 8.0, 16.0, 80.0), peer("c", 4.0, 8.0, 4.0))
    assert case.ratio("greenpump", "c", CPU) == Spread(median=2.0, min=2.0, max=20.0)
    assert case.ratio("c", "greenpump", CPU) == Spread(median=0.5, min=0.05, max=0.5)


@pytest.mark.parametrize("status", ["missing", "failed"])
def test_no_ratio_to_or_from_a_peer_without_figures(status: str) -> None:
    broken = PeerResult("c", samples=[{"cpu_us": 1.0}], status=status)
    case = result(peer("greenpump", 8.0), broken)
    assert broken.spread(CPU) is None
    assert case.ratio("greenpump", "c", CPU) is None
    assert case.ratio("c", "greenpump", CPU) is None
    assert case.ratio("greenpump", "nobody", CPU) is None


def test_no_ratio_to_zero() -> None:
    assert result(peer("a", 1.0), peer("b", 0.0)).ratio("a", "b", CPU) is None


def test_ranked_best_first_and_those_without_figures_last() -> None:
    peers = [
        PeerResult("a", status="missing"),
        peer("slow", 9.0),
        peer("fast", 1.0),
        PeerResult("B", status="failed"),
    ]
    assert [found.peer for found in ranked(peers, CPU)] == ["fast", "slow", "B", "a"]


def test_verdicts_tell_met_from_missed_from_not_measured() -> None:
    case = result(
        peer("greenpump", 6.0),
        peer("c", 4.0),
        peer("gevent", 10.0),
        PeerResult("uvloop", status="missing"),
        targets=TARGETS,
    )
    assert [verdict.outcome for verdict in verdicts([case], [CPU])] == [
        "met",
        "missed",
        "not measured",
    ]


def test_a_target_of_another_metric_or_without_a_peer() -> None:
    samples = [{"cpu_us": 6.0, "late_us": 50.0}, {"cpu_us": 7.0, "late_us": 60.0}]
    case = result(
        PeerResult("greenpump", samples=samples),
        targets=(Target("", 6.4), Target("", 60.0, "late_us"), Target("", 1.0, of="greenpump_2")),
    )
    found = verdicts([case], [CPU, LATE])
    assert [verdict.measured for verdict in found] == [
        Spread(median=6.5, min=6.0, max=7.0),
        Spread(median=55.0, min=50.0, max=60.0),
        None,
    ]
    assert [verdict.outcome for verdict in found] == ["missed", "met", "not measured"]
