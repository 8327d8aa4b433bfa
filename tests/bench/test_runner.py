"""Interleaving, and what becomes of peers that are missing, crash, or don't exist."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import __main__ as cli
from bench import registry, runner
from bench.outcome import FailedError, MissingError
from bench.registry import Peer
from bench.workload import Bench, Case, Metric, Sample, Target, Workload

CASE = Case("a case", ("echo",), {"size": 64}, (Target("c", 1.5),))
NOWHERE = Bench(None, None)


class Fake(Workload):
    """Measures nothing, but notes who was asked, and in which order."""

    asked: list[str]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--size", type=int, default=64)

    def cases(self, args: argparse.Namespace) -> Sequence[Case]:
        return [CASE]

    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        ASKED.append(peer.name)
        if peer.name == "trio":
            raise MissingError("trio", "pip install trio")
        if peer.name == "gevent" and ASKED.count("gevent") == 2:
            raise FailedError("wrong bytes", "Traceback\nlast words")
        return {"cpu_us": float(len(peer.name))}


ASKED: list[str] = []
WORKLOAD = Fake("fake", "a fake", (Metric("cpu_us", "CPU µs"),), ("greenpump", "c"))


@pytest.fixture(autouse=True)
def _nobody_asked_yet() -> None:
    ASKED.clear()


def contestants(*names: str) -> list[Peer]:
    return [Peer("echo", name, f"about {name}") for name in names]


def always(value: float) -> dict[str, float]:
    return {"median": value, "min": value, "max": value}


def test_rounds_are_interleaved() -> None:
    runner.run_case(WORKLOAD, CASE, contestants("a", "b", "c"), 2, NOWHERE, print)
    assert ASKED == ["a", "b", "c", "a", "b", "c"]


def test_who_is_missing_or_fails_is_named_and_the_others_go_on() -> None:
    said: list[str] = []
    result = runner.run_case(
        WORKLOAD, CASE, contestants("trio", "gevent", "c"), 3, NOWHERE, said.append
    )
    trio, gevent, c = result.peers
    assert (trio.status, trio.problem) == ("missing", "trio (pip install trio)")
    assert (gevent.status, gevent.problem, gevent.stderr) == (
        "failed",
        "wrong bytes",
        "Traceback\nlast words",
    )
    assert (c.status, len(c.samples)) == ("ok", 3)
    assert ASKED == ["trio", "gevent", "c", "gevent", "c", "c"]
    assert "a case, round 1/3: trio missing: trio (pip install trio)" in said


def test_json_and_markdown_have_every_peer_and_the_exit_status_tells_of_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    everyone = contestants("greenpump", "c", "trio", "gevent")
    monkeypatch.setattr(runner, "peers", lambda roles: everyone)
    args = argparse.Namespace(peers=None, repeats=3, out=tmp_path)

    assert cli.run(WORKLOAD, args, "python -m bench fake") == 1

    data = json.loads((tmp_path / "fake.json").read_text())
    assert {"schema", "workload", "command", "date", "repeats", "machine", "cores"} <= set(data)
    assert {"cpu", "cores", "kernel", "python", "libraries", "commit"} <= set(data["machine"])
    assert set(data["load_average"]) == {"before", "after"}
    assert data["command"] == "python -m bench fake"
    (case,) = data["cases"]
    assert (case["case"], case["params"]) == ("a case", {"size": 64})
    by_name = {peer["peer"]: peer for peer in case["peers"]}
    assert by_name["greenpump"] == {
        "peer": "greenpump",
        "about": "about greenpump",
        "status": "ok",
        "summary": {"cpu_us": always(9.0)},
        "ratio_to": {"greenpump": always(1.0), "c": always(9.0)},
        "samples": [{"cpu_us": 9.0}] * 3,
    }
    assert by_name["trio"]["status"] == "missing"
    assert by_name["trio"]["problem"] == "trio (pip install trio)"
    assert by_name["gevent"]["stderr"] == "Traceback\nlast words"
    (target,) = data["targets"]
    assert target == {
        "case": "a case",
        "peer": "c",
        "metric": "cpu_us",
        "at_most": 1.5,
        "at_least": None,
        "of": "greenpump",
        "measured": always(9.0),
        "outcome": "missed",
    }
    markdown = (tmp_path / "fake.md").read_text()
    assert markdown == capsys.readouterr().out.removesuffix("\n")
    for words in ("missing: trio (pip install trio)", "failed: wrong bytes", "last words"):
        assert words in markdown


def test_only_missing_peers_are_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "peers", lambda roles: contestants("c", "trio"))
    args = argparse.Namespace(peers=None, repeats=1, out=tmp_path)
    assert cli.run(WORKLOAD, args, "python -m bench fake") == 0


def test_a_peer_nobody_knows_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["echo", "--peers", "c,tornado", "--out", str(tmp_path)]
    assert cli.main(arguments) == 2
    assert "no such peer: tornado" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_every_workload_has_a_command_with_defaults_and_peers() -> None:
    workloads = registry.all_workloads()
    assert set(workloads) >= {"accept", "echo", "hubs", "memory", "pending", "ring", "tls", "udp"}
    for name, workload in workloads.items():
        args = cli.parser(workloads).parse_args([name])
        others: set[str] = set()
        for case in workload.cases(args):
            found = {peer.name for peer in runner.chosen(case, None)}
            ours = {peer for peer in found if peer.startswith("greenpump")}
            assert ours, (name, case)
            others |= found - ours
            for target in case.targets:
                assert target.of in found, (name, case)
                assert target.peer in found | {""}, (name, case)
                assert target.metric in {metric.key for metric in workload.metrics} | {""}
        assert others or not workload.compared_to, name


def test_every_peer_says_what_it_is() -> None:
    workloads = registry.all_workloads()
    args = [cli.parser(workloads).parse_args([name]) for name in workloads]
    for workload, arguments in zip(workloads.values(), args, strict=True):
        for case in workload.cases(arguments):
            assert all(peer.about for peer in runner.chosen(case, None))
