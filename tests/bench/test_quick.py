"""The guard of the ratios: what it calls worse, and that it calls nothing good unmeasured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import quick, registry
from bench.__main__ import main
from bench.outcome import FailedError, MissingError
from bench.quick import QUESTIONS, Asked, Question, Ratios, doubtful, judge
from bench.workload import Bench, Case, Sample
from bench.workloads.tasks import Tasks

NAMES = [question.ratio(peer) for question in QUESTIONS for peer in question.peers]


class Scripted:
    """Stands in for the measuring: every ratio is 1, but for those given, call by call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *calls: dict[str, list[float]]) -> None:
        self.asked: list[list[str]] = []
        self._calls = iter(calls)
        monkeypatch.setattr(quick, "measure", self)

    def __call__(self, questions: Sequence[Question], seconds: float) -> Ratios:
        self.asked.append([question.label for question in questions])
        names = [question.ratio(peer) for question in questions for peer in question.peers]
        return {name: [1.0, 1.0, 1.0] for name in names} | next(self._calls)


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps({quick.python(): dict.fromkeys(NAMES, 1.0), "3.1": {"x": 2.0}}))
    return path


def test_every_question_has_one_case_and_its_peers() -> None:
    workloads = registry.all_workloads()
    for question in QUESTIONS:
        Asked(question, workloads)
        targeted = registry.peers(question.case(workloads[question.workload]).roles)
        assert {"greenpump", *question.peers} <= {peer.name for peer in targeted}


def test_the_committed_baseline_has_every_ratio_and_nothing_else() -> None:
    for ratios in quick.read(quick.BASELINE).values():
        assert sorted(ratios) == sorted(NAMES)
        assert all(0 < ratio < 10 for ratio in ratios.values())


class Fake(Tasks):
    """greenpump takes 3 µs, the others 4."""

    def measure(self, case: Case, peer: registry.Peer, bench: Bench) -> Sample:
        return {"cpu_us": 3.0 if peer.name == "greenpump" else 4.0}


def test_a_round_divides_greenpumps_figure_by_each_peers() -> None:
    question = Question("a label", "tasks", ("gevent", "asyncio"), (), "spawn")
    asked = Asked(question, {"tasks": Fake("tasks", "", (), ())})
    assert list(asked.answer(Bench(None, None))) == [
        ("a label ÷ gevent", 0.75),
        ("a label ÷ asyncio", 0.75),
    ]


@pytest.mark.parametrize(
    ("rounds", "outcome"),
    [
        ([1.0, 1.14, 9.0], "as before"),
        ([1.0, 1.16, 1.2], "WORSE"),
        ([0.86, 0.86], "as before"),
        ([0.84], "better: write a new baseline"),
    ],
)
def test_the_median_is_held_against_the_baseline(rounds: list[float], outcome: str) -> None:
    (judged,) = judge({"a": rounds}, {"a": 1.0})
    assert judged.outcome == outcome


def test_without_a_baseline_nothing_is_judged() -> None:
    (judged,) = judge({"a": [1.0]}, {"b": 1.0})
    assert judged.outcome == "no baseline"
    assert doubtful([judged]) == []


def test_what_is_as_before_passes(
    baseline: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted = Scripted(monkeypatch, {})
    assert main(["quick", "--baseline", str(baseline)]) == 0
    assert len(scripted.asked) == 1
    output = capsys.readouterr().out
    assert all(name in output for name in NAMES)


def test_what_stays_worse_fails(
    baseline: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worse = {NAMES[0]: [1.2, 1.2, 1.2]}
    scripted = Scripted(monkeypatch, worse, worse)
    assert main(["quick", "--baseline", str(baseline)]) == 1
    assert scripted.asked[1] == [QUESTIONS[0].label]
    assert "worse by more than 15%" in capsys.readouterr().err


def test_what_only_looked_worse_passes_after_more_rounds(
    baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Scripted(monkeypatch, {NAMES[0]: [1.2, 1.2, 1.0]}, {})
    assert main(["quick", "--baseline", str(baseline)]) == 0


def test_another_python_has_no_baseline_and_that_is_no_success(
    baseline: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quick, "python", lambda: "2.7")
    Scripted(monkeypatch, {})
    assert main(["quick", "--baseline", str(baseline)]) == 2
    assert "quick --write" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [MissingError("gevent", "pip install gevent"), FailedError("exit status 1")]
)
def test_a_peer_without_a_figure_is_a_failure(
    error: Exception, baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(questions: Sequence[Question], seconds: float) -> Ratios:
        raise error

    monkeypatch.setattr(quick, "measure", measure)
    assert main(["quick", "--baseline", str(baseline)]) == 1


def test_writing_replaces_this_pythons_ratios_and_keeps_the_others(
    baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = Scripted(monkeypatch, {NAMES[0]: [2.0, 1.23456, 1.0]})
    assert main(["quick", "--write", "--baseline", str(baseline)]) == 0
    assert len(scripted.asked) == 1
    written = json.loads(baseline.read_text())
    assert written["3.1"] == {"x": 2.0}
    assert written[quick.python()] == dict.fromkeys(NAMES, 1.0) | {NAMES[0]: 1.235}


def test_a_first_baseline_is_written_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Scripted(monkeypatch, {})
    path = tmp_path / "new.json"
    assert main(["quick", "--write", "--baseline", str(path)]) == 0
    assert sorted(json.loads(path.read_text())[quick.python()]) == sorted(NAMES)


def test_rounds_go_on_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr(registry, "all_workloads", lambda: {"tasks": Fake("tasks", "", (), ())})
    question = Question("a", "tasks", ("gevent",), (), "spawn")
    assert quick.measure([question], 5, 2, lambda: next(now)) == {"a ÷ gevent": [0.75] * 6}
