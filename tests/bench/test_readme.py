"""The figures in README.md: put there from the results, by the command, and by nothing else."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from bench import readme
from bench.__main__ import main, write
from bench.registry import all_workloads
from bench.summary import CaseResult, PeerResult
from bench.workload import Case

BLOCK = "before\n<!-- bench:echo -->\nold\n<!-- /bench -->\nafter\n"
HEAD: dict[str, Any] = {
    "schema": 1,
    "workload": "echo",
    "command": "python -m bench echo",
    "date": "2026-07-14T12:00:00+00:00",
    "repeats": 3,
    "machine": {
        "cpu": "A CPU",
        "cores": 2,
        "kernel": "6.1.0",
        "python": "3.13.0",
        "gil": True,
        "freethreaded": None,
        "gcc": "14.2.0",
        "go": None,
        "libevent": None,
        "libraries": {"gevent": None},
        "commit": "abc1234",
    },
    "cores": {"server": 0, "load": 1},
    "load_average": {"before": 0.0, "after": 0.1},
}


def samples(*cpu_us: float) -> list[dict[str, float]]:
    return [{"cpu_us": each, "throughput": 1e6 / each} for each in cpu_us]


def results(directory: Path) -> Path:
    """What a run of `python -m bench echo` leaves, written by its own code."""
    cases = [
        CaseResult(
            Case("50 connections, 64 B", ("echo",), {}),
            [
                PeerResult("greenpump", samples=samples(8.0, 7.0, 9.0)),
                PeerResult("gevent", samples=samples(16.0, 14.0, 27.0)),
                PeerResult("c", samples=samples(4.0, 4.0, 4.5)),
                PeerResult("trio", status="missing", problem="trio (pip install 'trio')"),
                PeerResult("uvloop", status="failed", problem="exit status 1: " + "long " * 50),
            ],
        ),
        CaseResult(
            Case("500 connections, 64 B", ("echo",), {}),
            [
                PeerResult("greenpump", samples=samples(10.0, 10.0, 10.0)),
                PeerResult("c", samples=samples(5.0, 5.0, 6.0)),
            ],
        ),
    ]
    write(directory, all_workloads()["echo"], HEAD, cases, [])
    return directory


def rows_of(markdown: str) -> dict[str, list[str]]:
    lines = [line.strip("| ").split("|") for line in markdown.splitlines() if line.startswith("|")]
    return {first.strip(): [cell.strip() for cell in rest] for first, *rest in lines}


def test_one_table_with_medians_and_ratios_best_first(tmp_path: Path) -> None:
    filled = readme.fill(BLOCK, results(tmp_path))
    rows = rows_of(filled)
    assert list(rows)[2:] == ["c", "greenpump", "gevent", "trio", "uvloop"]
    assert rows["peer"][::2] == ["50 connections, 64 B", "500 connections, 64 B"]
    assert rows["peer"][1::2] == ["÷ greenpump", "÷ greenpump"]
    assert rows["greenpump"] == ["8.00", "1.00", "10.00", "1.00"]
    assert rows["c"] == ["4.00", "0.50", "5.00", "0.50"]
    assert rows["gevent"][:2] == ["16.00", "2.00"]


def test_peers_without_figures_are_named_with_their_reason(tmp_path: Path) -> None:
    rows = rows_of(readme.fill(BLOCK, results(tmp_path)))
    assert rows["trio"][0] == "missing: trio (pip install 'trio')"
    assert rows["uvloop"][0].startswith("failed: exit status 1: long")
    assert len(rows["uvloop"][0]) <= readme.PROBLEM_WIDTH


def test_a_block_chooses_cases_and_peers_and_names_the_others(tmp_path: Path) -> None:
    opening = '<!-- bench:echo cases="50 connections, 64 B" peers="greenpump; gevent" -->'
    filled = readme.fill(BLOCK.replace("<!-- bench:echo -->", opening), results(tmp_path))
    rows = rows_of(filled)
    assert list(rows)[2:] == ["greenpump", "gevent"]
    assert rows["peer"] == ["50 connections, 64 B", "÷ greenpump"]
    assert "Also measured: c, trio, uvloop. All of it" in filled
    assert opening in filled
    assert readme.fill(filled, tmp_path) == filled


@pytest.mark.parametrize("choice", ['cases="5 connections"', 'peers="gevnet"', 'pears="c"'])
def test_a_choice_of_what_there_is_not_is_refused(tmp_path: Path, choice: str) -> None:
    text = BLOCK.replace("bench:echo", f"bench:echo {choice}")
    with pytest.raises(readme.UnreadableError, match="nothing is called"):
        readme.fill(text, results(tmp_path))


def test_the_caption_says_what_when_and_on_what(tmp_path: Path) -> None:
    caption = " ".join(readme.fill(BLOCK, results(tmp_path)).split("|")[0].split())
    for part in (
        "CPU µs/message",
        "3 interleaved rounds",
        "CPython 3.13.0,",
        "A CPU",
        "2026-07-14",
    ):
        assert part in caption
    assert "commit abc1234, by `python -m bench echo`." in caption


def test_the_rest_of_the_text_stays_and_a_second_fill_changes_nothing(tmp_path: Path) -> None:
    results(tmp_path)
    once = readme.fill(BLOCK, tmp_path)
    assert once.startswith("before\n<!-- bench:echo -->\nCPU")
    assert once.endswith("\n<!-- /bench -->\nafter\n")
    assert "old" not in once
    assert readme.fill(once, tmp_path) == once


def test_without_results_the_block_says_how_to_get_them(tmp_path: Path) -> None:
    text = BLOCK + BLOCK.replace("echo", "ring")
    filled = readme.fill(text, tmp_path)
    assert "`python -m bench echo` measures" in filled
    assert "`python -m bench ring` measures" in filled
    assert "|" not in filled


def test_a_block_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(readme.UnreadableError, match="without its"):
        readme.fill("<!-- bench:echo -->\n" + BLOCK, tmp_path)


@pytest.mark.parametrize("change", [{"schema": 2}, {"cases": None}, {"metrics": 3}, "[", "[]"])
def test_results_of_another_kind_are_refused(tmp_path: Path, change: dict[str, Any] | str) -> None:
    path = results(tmp_path) / "echo.json"
    if isinstance(change, str):
        path.write_text(change)
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(readme.UnreadableError, match=r"echo\.json"):
        readme.fill(BLOCK, tmp_path)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "README.md"
    file.write_text(BLOCK)
    command = ["readme", "--readme", str(file), "--results", str(results(tmp_path / "results"))]
    assert main([*command, "--check"]) == 1
    assert "is behind" in capsys.readouterr().err
    assert file.read_text() == BLOCK
    assert main(command) == 0
    assert rows_of(file.read_text())["greenpump"][0] == "8.00"
    assert main([*command, "--check"]) == 0


def test_the_command_leaves_a_broken_file_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "README.md"
    file.write_text("<!-- bench:echo -->\n")
    assert main(["readme", "--readme", str(file), "--results", str(tmp_path)]) == 2
    assert "without its" in capsys.readouterr().err
    assert file.read_text() == "<!-- bench:echo -->\n"


def test_the_readme_of_this_tree_is_not_behind_its_results() -> None:
    args = Namespace(readme=readme.README, results=readme.RESULTS, check=True)
    assert readme.main(args) == 0, "run: python -m bench readme"
