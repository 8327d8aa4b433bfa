"""`python -m bench plots`: draws bench/results/ring.json as the seeds of greenpump drew theirs.

A picture for 100 active pairs and one for 1,000: the time an event takes over the number of fds,
whose axis is logarithmic. Each point is the median of the rounds, its bar their least and greatest.
Wall time, since only that tells what a second core brings.

trio is left out: it takes so much longer that the others would be one line at the bottom; it is in
the table of results/ring.md. The pictures say on what they were measured, and no figure in them is
typed by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.readme import RESULTS, SCHEMA, UnreadableError

ACTIVE = (100, 1000)
METRIC = "wall_us"
FDS_A_PAIR = 2
SIZE = (9.0, 5.5)  # inches
DPI = 110
CAPTION_WIDTH = 150  # characters

COLOURS = {
    "greenpump": "#1a7f37",
    "greenpump_detached": "#57ab5a",
    "greenpump_nogil": "#8250df",
    "greenpump_detached_nogil": "#bf8fff",
    "libevent": "#1f2328",
    "uvloop": "#0969da",
    "asyncio": "#9a6700",
    "gevent": "#cf222e",
    "epoll": "#6e7781",
}
ONE_CORE, SEVERAL_CORES = "-", "--"
_SCALED = re.compile(r"(?P<single>\w+)_(?P<lanes>\d+)(?P<what>hubs|processes)")


@dataclass(frozen=True)
class Line:
    """One peer: what it took, by the number of fds."""

    peer: str
    fds: tuple[int, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def lines(data: Mapping[str, Any], active: int) -> list[Line]:
    """The peers' figures with so many active pairs, the slowest at the most fds first."""
    points: dict[str, list[tuple[int, float, float, float]]] = {}
    for case in data["cases"]:
        if case["params"]["active"] != active:
            continue
        fds = case["params"]["pairs"] * FDS_A_PAIR
        for peer in case["peers"]:
            if spread := peer.get("summary", {}).get(METRIC):
                point = (fds, spread["median"], spread["min"], spread["max"])
                points.setdefault(peer["peer"], []).append(point)
    found = []
    for name, its_points in points.items():
        fds, median, low, high = zip(*sorted(its_points), strict=True)
        found.append(Line(name, fds, median, low, high))
    return sorted(found, key=lambda line: line.median[-1], reverse=True)


@dataclass(frozen=True)
class Style:
    label: str
    colour: str
    dashes: str


def style(peer: str) -> Style | None:
    """A peer on several cores has the colour it has on one, and is dashed; None is not drawn."""
    single, label, dashes = peer, peer, ONE_CORE
    if scaled := _SCALED.fullmatch(peer):
        single, dashes = scaled["single"], SEVERAL_CORES
        label = f"{single}, {scaled['lanes']} {scaled['what']}"
    if single not in COLOURS:
        return None
    return Style(label.replace("_nogil", " without GIL"), COLOURS[single], dashes)


def caption(data: Mapping[str, Any]) -> str:
    machine = data["machine"]
    return textwrap.fill(
        f"median of {data['repeats']} interleaved rounds, bars from least to greatest; "
        f"CPython {machine['python']}, without the GIL {machine['freethreaded']}; "
        f"libevent {machine['libevent']}; {machine['cpu']}, {machine['cores']} cores, "
        f"Linux {machine['kernel']}; {data['date'][:10]}, commit {machine['commit']}, "
        f"by `{data['command']}`",
        CAPTION_WIDTH,
    )


def draw(data: Mapping[str, Any], active: int, path: Path) -> None:
    """One picture, as PNG. Raises ModuleNotFoundError without matplotlib."""
    from matplotlib.figure import Figure  # not pyplot: no window, nothing global

    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    found = lines(data, active)
    for line in found:
        look = style(line.peer)
        if look is None:
            continue
        below = [median - low for median, low in zip(line.median, line.low, strict=True)]
        above = [high - median for median, high in zip(line.median, line.high, strict=True)]
        axes.errorbar(
            line.fds,
            line.median,
            yerr=(below, above),
            label=look.label,
            color=look.colour,
            linestyle=look.dashes,
            linewidth=2.4 if line.peer.startswith("greenpump") else 1.4,
            marker="o",
            markersize=4,
            capsize=3,
        )
    axes.set_xscale("log")
    axes.set_xticks(sorted({fds for line in found for fds in line.fds}), minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("fds (two for each pair of sockets)")
    axes.set_ylabel("µs for an event, wall time (less is better)")
    axes.set_title(f"Ring of socket pairs, {active:,} active")
    axes.grid(True, alpha=0.25)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.supxlabel(caption(data), fontsize=6, color="#57606a")
    # No date of its own: the same results make the same file.
    figure.savefig(path, metadata={"Software": None})


def draw_all(results: Path) -> list[Path]:
    """Draw what results/ring.json has figures for. Raises UnreadableError."""
    source = results / "ring.json"
    try:
        data = json.loads(source.read_text())
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']}, not {SCHEMA}")
        drawn = []
        for active in ACTIVE:
            if lines(data, active):
                drawn.append(results / f"ring-{active}.png")
                draw(data, active, drawn[-1])
    except FileNotFoundError as error:
        raise UnreadableError(f"no {source}: python -m bench ring makes it") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableError(f"{source}: {error!r}") from error
    return drawn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="where ring.json is and the pictures go"
    )


def main(args: argparse.Namespace) -> int:
    try:
        drawn = draw_all(args.results)
    except UnreadableError as error:
        print(f"python -m bench plots: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"missing: {error.name} (pip install -e '.[bench]')", file=sys.stderr)
        return 2
    print(*drawn, sep="\n")
    return 0
