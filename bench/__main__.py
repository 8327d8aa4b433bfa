"""`python -m bench WORKLOAD`: measures greenpump beside its peers; see bench/README.md."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import machine, options, plots, quick, readme, registry, runner, summary, tables
from bench.workload import Workload

RESULTS = Path(__file__).parent / "results"
SCHEMA = 1  # of the JSON files; raise it when a reader of old files would stumble


def parser(workloads: dict[str, Workload]) -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = top.add_subparsers(dest="workload", required=True, metavar="WORKLOAD")
    for workload in workloads.values():
        command = commands.add_parser(
            workload.name,
            help=workload.about,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        command.add_argument(
            "--peers",
            type=options.names,
            help="comma-separated; None is all there are",
        )
        command.add_argument(
            "--repeats", type=options.positive, default=5, help="interleaved rounds"
        )
        command.add_argument(
            "--out", type=Path, default=RESULTS, help="directory for the .json and .md files"
        )
        workload.add_arguments(command)
    command = commands.add_parser("readme", help="put the figures of the results into README.md")
    readme.add_arguments(command)
    command = commands.add_parser("plots", help="draw the results of ring")
    plots.add_arguments(command)
    command = commands.add_parser("quick", help="have the main ratios become worse?")
    quick.add_arguments(command)
    return top


def measuring(argv: Sequence[str]) -> str:
    """The command that measures the same again: where its files go is no part of that."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out")
    return shlex.join(["python", "-m", "bench", *parser.parse_known_args(argv)[1]])


def run(workload: Workload, args: argparse.Namespace, command: str) -> int:
    cases = workload.cases(args)
    known = {peer.name for case in cases for peer in runner.chosen(case, None)}
    if unknown := set(args.peers or ()) - known:
        progress(f"no such peer: {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
        return 2
    bench = runner.pick_cores()
    head: dict[str, Any] = {
        "schema": SCHEMA,
        "workload": workload.name,
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "repeats": args.repeats,
        "machine": machine.describe(),
        "cores": {"server": bench.server_cpu, "load": bench.load_cpu},
    }
    before = machine.load_average()
    results = [
        runner.run_case(
            workload, case, runner.chosen(case, args.peers), args.repeats, bench, progress
        )
        for case in cases
    ]
    head["load_average"] = {"before": before, "after": machine.load_average()}
    verdicts = summary.verdicts(results, workload.metrics)
    write(args.out, workload, head, results, verdicts)
    return 1 if any(peer.status == "failed" for case in results for peer in case.peers) else 0


def write(
    directory: Path,
    workload: Workload,
    head: dict[str, Any],
    results: Sequence[summary.CaseResult],
    verdicts: Sequence[summary.Verdict],
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    data = head | {
        "metrics": {metric.key: metric.label for metric in workload.metrics},
        "cases": [
            summary.as_json(result, workload.metrics, workload.compared_to) for result in results
        ],
        "targets": [
            {
                "case": verdict.case,
                **vars(verdict.target),
                "metric": verdict.metric.key,
                # A ratio to the peer; the figure itself where the peer is "".
                "measured": vars(verdict.measured) if verdict.measured else None,
                "outcome": verdict.outcome,
            }
            for verdict in verdicts
        ],
    }
    report = tables.report(workload, results, verdicts, head)
    (directory / f"{workload.name}.json").write_text(json.dumps(data, indent=1) + "\n")
    (directory / f"{workload.name}.md").write_text(report)
    print(report)


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(argv: Sequence[str]) -> int:
    workloads = registry.all_workloads()
    args = parser(workloads).parse_args(argv)
    others = {"readme": readme.main, "plots": plots.main, "quick": quick.main}
    if args.workload in others:
        return others[args.workload](args)
    return run(workloads[args.workload], args, measuring(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
