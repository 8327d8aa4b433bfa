"""Markdown: an aligned table, and the report of one run."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from bench.summary import CaseResult, PeerResult, Verdict, ranked
from bench.workload import Metric, Workload

STDERR_LINES = 5
PROBLEM_WIDTH = 50  # in a cell; a failure is told in full below its table


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column left-aligned, the others right; padded, so that it reads as plain text."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in [header, *rows]]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first, *rest = zip(row, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(cells[0]), line(rule), *(line(row) for row in cells[1:])])


def number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


def case_table(result: CaseResult, metrics: Sequence[Metric], bases: Sequence[str]) -> str:
    first, *others = metrics
    present = [base for base in bases if result.find(base)]
    over = [f"÷ {base}" for base in present]
    header = ["peer", f"{first.label}, median", "min – max", *over]
    for metric in others:
        header += [metric.label, *(over if metric.compared else [])]
    rows = []
    for peer in ranked(result.peers, first):
        spread = peer.spread(first)
        if spread is None:
            problem = textwrap.shorten(peer.problem, PROBLEM_WIDTH, placeholder=" …")
            rows.append([peer.peer, f"{peer.status}: {problem}", *[""] * (len(header) - 2)])
            continue
        low, high = (number(value, first.digits) for value in (spread.min, spread.max))
        row = [peer.peer, number(spread.median, first.digits), f"{low} – {high}"]
        row += _ratios(result, peer.peer, present, first)
        for metric in others:
            other = peer.spread(metric)
            row.append("" if other is None else number(other.median, metric.digits))
            if metric.compared:
                row += _ratios(result, peer.peer, present, metric)
        rows.append(row)
    return table(header, rows)


def _ratios(result: CaseResult, peer: str, bases: Sequence[str], metric: Metric) -> list[str]:
    ratios = (result.ratio(peer, base, metric) for base in bases)
    return ["" if ratio is None else number(ratio.median, 2) for ratio in ratios]


def report(
    workload: Workload,
    results: Sequence[CaseResult],
    verdicts: Sequence[Verdict],
    run: dict[str, Any],
) -> str:
    """The whole .md file. `run` is the head of the JSON file: command, date, machine."""
    parts = [f"# {workload.name}: {workload.about}", _provenance(run)]
    for result in results:
        parts.append(f"## {result.case.label}")
        parts.append(case_table(result, workload.metrics, workload.compared_to))
        parts += [_failure(peer) for peer in result.peers if peer.status == "failed"]
    if verdicts:
        parts += ["## Targets", _targets(verdicts)]
    parts.append("## Peers")
    parts.append("\n".join(f"- {line}" for line in _abouts(results)))
    if workload.notes:
        parts.append("## How to read it")
        parts.append("\n".join(f"- {note}" for note in workload.notes))
    return "\n\n".join(parts) + "\n"


def _failure(peer: PeerResult) -> str:
    tail = "\n".join(peer.stderr.splitlines()[-STDERR_LINES:]) or "(nothing on stderr)"
    return f"{peer.peer} failed: {peer.problem}\n\n```\n{tail}\n```"


def _targets(verdicts: Sequence[Verdict]) -> str:
    rows = []
    for verdict in verdicts:
        peer = f" ÷ {verdict.target.peer}" if verdict.target.peer else ""
        metric = verdict.metric.label if verdict.target.metric or not peer else ""
        name = f"{verdict.case}: {verdict.target.of}{peer}{metric and ', ' + metric}"
        measured = spread = ""
        if verdict.measured is not None:
            measured = number(verdict.measured.median, 2)
            spread = f"{number(verdict.measured.min, 2)} – {number(verdict.measured.max, 2)}"
        limits = [("≤", verdict.target.at_most), ("≥", verdict.target.at_least)]
        wanted = " ".join(f"{sign} {limit:g}" for sign, limit in limits if limit is not None)
        rows.append([name, wanted, measured, spread, verdict.outcome])
    return table(["target", "wanted", "measured", "min – max", "outcome"], rows)


def _abouts(results: Sequence[CaseResult]) -> list[str]:
    """Once each, in order: the peer of a name is another one where it plays another role."""
    lines = (f"{peer.peer}: {peer.about}" for result in results for peer in result.peers)
    return list(dict.fromkeys(lines))


def _provenance(run: dict[str, Any]) -> str:
    machine = run["machine"]
    libraries = ", ".join(
        f"{name} {version or 'not installed'}" for name, version in machine["libraries"].items()
    )
    return "\n".join(
        [
            f"- `{run['command']}`",
            f"- {run['date']}, {run['repeats']} interleaved rounds, load average"
            f" {run['load_average']['before']} before and {run['load_average']['after']} after",
            f"- {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}"
            f" (peer on core {run['cores']['server']}, load on core {run['cores']['load']})",
            f"- CPython {machine['python']}{'' if machine['gil'] else ' without GIL'},"
            f" free-threaded CPython {machine['freethreaded'] or 'not here'},"
            f" gcc {machine['gcc']}, {machine['go'] or 'no go'}, libevent {machine['libevent']},"
            f" {libraries}",
            f"- commit {machine['commit']}",
        ]
    )
