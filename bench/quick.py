"""`python -m bench quick`: have the main ratios become worse? The answer takes less than a minute.

Each ratio is greenpump's CPU time over a peer's, for the same work. Rounds of all of them are
interleaved for as long as there is time, and the median of a ratio's rounds is held against the one
in baseline.json. One that looks worse is measured for some time more before it is said to be so.
The baseline has ratios alone, for no time of one machine says anything on another, and a set for
each Python, since another interpreter is faster at other things.

    python -m bench quick           # exit status 1 when a ratio is worse by more than 15 %
    python -m bench quick --write   # the ratios measured become the baseline: commit it, with why

A peer that is missing or fails is a failure: a guard that measured nothing has guarded nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import registry
from bench.outcome import FailedError, MissingError
from bench.registry import Peer
from bench.runner import chosen, pick_cores
from bench.summary import Spread
from bench.tables import number, table
from bench.workload import Bench, Case, Workload

BASELINE = Path(__file__).parent / "baseline.json"
TOLERANCE = 0.15
SECONDS = 33.0
"""How long a new round is begun; the last may end a few seconds later."""
DOUBTFUL = 0.4
"""This part of it again for what looks worse."""
LEAST_ROUNDS = 3
METRIC = "cpu_us"
OURS = "greenpump"

Ratios = dict[str, list[float]]


@dataclass(frozen=True)
class Question:
    """One piece of work, and the peers it is compared with."""

    label: str
    workload: str
    peers: tuple[str, ...]
    arguments: tuple[str, ...]
    what: str | None = None
    """Which case of the workload, if it has several."""

    def case(self, workload: Workload) -> Case:
        parser = argparse.ArgumentParser()
        workload.add_arguments(parser)
        cases = workload.cases(parser.parse_args(self.arguments))
        (case,) = (each for each in cases if each.params.get("what") == self.what)
        return case

    def ratio(self, peer: str) -> str:
        """Its name, in the baseline too."""
        return f"{self.label} ÷ {peer}"


QUESTIONS = (
    Question(
        "echo, 50 connections",
        "echo",
        ("uvloop_protocol", "gevent"),
        ("--connections", "50", "--size", "64", "--seconds", "0.4", "--warmup", "0.1"),
    ),
    Question(
        "ring, 100 pairs",
        "ring",
        ("libevent",),
        ("--pairs", "100", "--active", "100", "--writes", "50000"),
    ),
    Question("spawn and join", "tasks", ("gevent",), ("--tasks", "10000"), "spawn"),
    Question("yield", "tasks", ("gevent",), ("--switches", "100000"), "switch"),
    Question("channel, there and back", "sync", ("gevent",), ("--messages", "40000"), "round_trip"),
)


class Asked:
    """A question with its case and its peers, greenpump first; it is answered round by round."""

    def __init__(self, question: Question, workloads: Mapping[str, Workload]) -> None:
        self._question = question
        self._workload = workloads[question.workload]
        self._case = question.case(self._workload)
        found = {peer.name: peer for peer in chosen(self._case, (OURS, *question.peers))}
        self._peers: list[Peer] = [found[name] for name in (OURS, *question.peers)]

    def answer(self, bench: Bench) -> Iterator[tuple[str, float]]:
        """One round: each ratio's name, and what it is. Raises MissingError or FailedError."""
        figures = [self._workload.measure(self._case, peer, bench)[METRIC] for peer in self._peers]
        for peer, figure in zip(self._peers[1:], figures[1:], strict=True):
            yield self._question.ratio(peer.name), figures[0] / figure


def measure(
    questions: Sequence[Question],
    seconds: float,
    least_rounds: int = LEAST_ROUNDS,
    clock: Callable[[], float] = time.monotonic,
) -> Ratios:
    """Every ratio's rounds. Raises MissingError or FailedError as soon as a peer has no figure."""
    workloads = registry.all_workloads()
    asked = [Asked(question, workloads) for question in questions]
    bench = pick_cores()
    ratios: Ratios = {}
    end = clock() + seconds
    rounds = 0
    while rounds < least_rounds or clock() < end:
        for one in asked:
            for name, ratio in one.answer(bench):
                ratios.setdefault(name, []).append(ratio)
        rounds += 1
    return ratios


@dataclass(frozen=True)
class Judged:
    """A ratio beside its baseline."""

    name: str
    rounds: int
    now: Spread
    baseline: float | None

    @property
    def change(self) -> float | None:
        """0.1 is a tenth worse."""
        return None if self.baseline is None else self.now.median / self.baseline - 1

    @property
    def outcome(self) -> str:
        if self.change is None:
            return "no baseline"
        if self.change > TOLERANCE:
            return "WORSE"
        return "better: write a new baseline" if self.change < -TOLERANCE else "as before"


def doubtful(judged: Sequence[Judged]) -> list[Question]:
    """The questions with a ratio that looks worse."""
    worse = {one.name for one in judged if one.outcome == "WORSE"}
    return [
        question
        for question in QUESTIONS
        if worse & {question.ratio(peer) for peer in question.peers}
    ]


def judge(ratios: Ratios, baseline: Mapping[str, float]) -> list[Judged]:
    return [
        Judged(name, len(rounds), Spread.of(rounds), baseline.get(name))
        for name, rounds in ratios.items()
    ]


def report(judged: Sequence[Judged]) -> str:
    rows = []
    for one in judged:
        now = one.now
        rows.append(
            [
                one.name,
                str(one.rounds),
                number(now.median, 3),
                f"{number(now.min, 3)} – {number(now.max, 3)}",
                "" if one.baseline is None else number(one.baseline, 3),
                "" if one.change is None else f"{one.change:+.0%}",
                one.outcome,
            ]
        )
    return table(
        ["greenpump's CPU time", "rounds", "ratio", "min – max", "baseline", "change", ""], rows
    )


def python() -> str:
    """Which set of the baseline is this interpreter's."""
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    return ".".join(platform.python_version_tuple()[:2]) + ("" if gil else "t")


def read(path: Path) -> dict[str, dict[str, float]]:
    """All of the baseline, by Python; empty if there is none."""
    found: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}
    return found


def write(path: Path, judged: Sequence[Judged]) -> None:
    """Make these the baseline of this Python; those of the others stay."""
    everyone = read(path) | {python(): {one.name: round(one.now.median, 3) for one in judged}}
    text = json.dumps(everyone, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="the file of ratios")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="how long new rounds are begun"
    )
    parser.add_argument(
        "--write", action="store_true", help="judge nothing, but write the baseline anew"
    )


def main(args: argparse.Namespace) -> int:
    """0: all is as before. 1: a ratio is worse, or a peer has no figure. 2: no baseline."""
    began = time.monotonic()
    baseline = {} if args.write else read(args.baseline).get(python(), {})
    try:
        ratios = measure(QUESTIONS, args.seconds)
        if again := doubtful(judge(ratios, baseline)):
            for name, rounds in measure(again, args.seconds * DOUBTFUL).items():
                ratios[name] += rounds
    except MissingError as error:
        print(f"missing: {error}", file=sys.stderr)
        return 1
    except FailedError as error:
        print(f"failed: {error.reason}\n{error.stderr}", file=sys.stderr)
        return 1
    judged = judge(ratios, baseline)
    print(report(judged))
    print(f"\n{time.monotonic() - began:.0f} s on CPython {python()}")
    if args.write:
        write(args.baseline, judged)
        print(f"written to {args.baseline}")
        return 0
    if any(one.outcome == "WORSE" for one in judged):
        print(f"worse by more than {TOLERANCE:.0%}: see above", file=sys.stderr)
        return 1
    if unknown := [one.name for one in judged if one.baseline is None]:
        print(
            f"{args.baseline} has no {', '.join(unknown)} for CPython {python()}: "
            "python -m bench quick --write, on the last good commit",
            file=sys.stderr,
        )
        return 2
    return 0
