"""`python -m bench readme`: puts the figures of bench/results/*.json into README.md.

What stands between `<!-- bench:echo -->` and `<!-- /bench -->` is written by this alone, from
results/echo.json, so that no figure in it was typed by hand. Where there are no results yet, the
block says which command makes them. A block may choose cases and peers, and then says how many
others there are:

    <!-- bench:echo cases="50 connections, 64 B; 500 connections, 64 B" peers="c; gevent" -->
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.tables import number, table

README = Path(__file__).parent.parent / "README.md"
RESULTS = Path(__file__).parent / "results"
SCHEMA = 1  # the JSON that this reads; bench/__main__.py writes it
BASE = "greenpump"
PROBLEM_WIDTH = 40

_BLOCK = re.compile(
    r"^(?P<opening><!-- bench:(?P<name>\w+)(?P<choice>(?: \w+=\"[^\"\n]*\")*) -->)\n"
    r"(?P<body>.*?)^<!-- /bench -->$",
    re.MULTILINE | re.DOTALL,
)
_CHOICE = re.compile(r' (\w+)="([^"]*)"')
_OPENING = re.compile(r"^<!-- bench:", re.MULTILINE)


class UnreadableError(Exception):
    """The text or the results are not what this command can work with."""


def fill(text: str, results: Path) -> str:
    """`text` with every block filled anew; raises UnreadableError when a block has no end."""
    if len(_OPENING.findall(text)) != len(_BLOCK.findall(text)):
        raise UnreadableError("a <!-- bench:NAME --> without its <!-- /bench -->")
    return _BLOCK.sub(lambda block: _filled(block, results), text)


def _filled(block: re.Match[str], results: Path) -> str:
    name = block["name"]
    path = results / f"{name}.json"
    if path.exists():
        try:
            data, others = _chosen(json.loads(path.read_text()), block["choice"])
            body = _body(data)
            if others:
                everything = "/".join(path.with_suffix(".md").parts[-3:])
                body += f"\n\nAlso measured: {others}. All of it: `{everything}`."
        except (AttributeError, KeyError, StopIteration, TypeError, ValueError) as error:
            raise UnreadableError(f"{path}: {error!r}") from error
    else:
        body = textwrap.fill(
            f"Not measured yet: `python -m bench {name}` measures, and `python -m bench readme` "
            "puts the table here.",
            100,
        )
    return f"{block['opening']}\n{body}\n<!-- /bench -->"


def _chosen(data: dict[str, Any], choice: str) -> tuple[dict[str, Any], str]:
    """What a block shows of the results, and the names of the peers that it leaves out."""
    wanted = {key: names.split("; ") for key, names in _CHOICE.findall(choice)}
    cases, peers = wanted.pop("cases", None), wanted.pop("peers", None)
    known = {peer["peer"] for case in data["cases"] for peer in case["peers"]}
    strange = [*wanted, *set(cases or ()).difference(case["case"] for case in data["cases"])]
    strange += set(peers or ()) - known
    if strange:
        raise ValueError(f"nothing is called {', '.join(map(repr, strange))}")
    shown = [case for case in data["cases"] if cases is None or case["case"] in cases]
    if peers is not None:
        shown = [
            {**case, "peers": [peer for peer in case["peers"] if peer["peer"] in peers]}
            for case in shown
        ]
    return {**data, "cases": shown}, ", ".join(sorted(known - set(peers or known)))


def _body(data: Mapping[str, Any]) -> str:
    """The first metric of every case in one table, and where the figures come from."""
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema {data['schema']}, not {SCHEMA}")
    key, label = next(iter(data["metrics"].items()))
    cases: list[Mapping[str, Any]] = data["cases"]
    header = ["peer"]
    for case in cases:
        header += [case["case"], f"÷ {BASE}"]
    rows = [_row(name, cases, key) for name in _ranked(cases, key)]
    return f"{_caption(label, data)}\n\n{table(header, rows)}"


def _ranked(cases: list[Mapping[str, Any]], key: str) -> list[str]:
    """The peers by their figure in the first case that has one; those without come last."""
    places: dict[str, tuple[bool, float, str]] = {}
    for case in cases:
        for peer in case["peers"]:
            name = peer["peer"]
            summary = peer.get("summary", {}).get(key)
            if summary is None:
                places.setdefault(name, (True, 0.0, name))
            elif places.get(name, (True,))[0]:
                places[name] = (False, summary["median"], name)
    return sorted(places, key=places.__getitem__)


def _row(name: str, cases: list[Mapping[str, Any]], key: str) -> list[str]:
    row = [name]
    for case in cases:
        peer = next((each for each in case["peers"] if each["peer"] == name), None)
        if peer is None:
            row += ["", ""]
        elif peer["status"] != "ok":
            problem = f"{peer['status']}: {peer['problem']}"
            row += [textwrap.shorten(problem, PROBLEM_WIDTH, placeholder=" …"), ""]
        else:
            ratio = peer["ratio_to"].get(BASE)
            row += [
                number(peer["summary"][key]["median"], 2),
                "" if ratio is None else number(ratio["median"], 2),
            ]
    return row


def _caption(label: str, data: Mapping[str, Any]) -> str:
    machine = data["machine"]
    gil = "" if machine["gil"] else " without the GIL"
    return textwrap.fill(
        f"{label}, median of {data['repeats']} interleaved rounds (less is better): CPython "
        f"{machine['python']}{gil}, {machine['cpu']}, {machine['cores']} cores, Linux "
        f"{machine['kernel']}, {data['date'][:10]}, commit {machine['commit']}, by "
        f"`{data['command']}`.",
        100,
        break_long_words=False,
        break_on_hyphens=False,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--readme", type=Path, default=README, help="the file to fill")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the .json files are")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if it would change"
    )


def main(args: argparse.Namespace) -> int:
    text = args.readme.read_text()
    try:
        filled = fill(text, args.results)
    except UnreadableError as error:
        print(f"python -m bench readme: {error}", file=sys.stderr)
        return 2
    if filled == text:
        return 0
    if args.check:
        print(f"{args.readme} is behind {args.results}: python -m bench readme", file=sys.stderr)
        return 1
    args.readme.write_text(filled)
    return 0
