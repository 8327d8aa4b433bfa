"""The pictures of the ring: what is drawn from the results, and that it is drawn."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from bench import plots
from bench.__main__ import main
from bench.process import ROOT


def peer(name: str, median: float) -> dict[str, Any]:
    spread = {"median": median, "min": median - 1, "max": median + 2}
    return {"peer": name, "status": "ok", "summary": {"wall_us": spread}}


def case(pairs: int, active: int, *peers: dict[str, Any]) -> dict[str, Any]:
    return {"params": {"pairs": pairs, "active": active}, "peers": list(peers)}


MISSING = {"peer": "gevent", "status": "missing", "problem": "gevent (pip install gevent)"}
DATA: dict[str, Any] = {
    "schema": 1,
    "command": "python -m bench ring",
    "date": "2026-07-14T12:00:00+00:00",
    "repeats": 3,
    "machine": {
        "cpu": "A CPU",
        "cores": 2,
        "kernel": "6.1.0",
        "python": "3.11.7",
        "freethreaded": None,
        "libevent": "2.1.12",
        "commit": "abc1234",
    },
    "cases": [
        case(9900, 100, peer("greenpump", 8.0), peer("libevent", 3.0), MISSING),
        case(1000, 100, peer("greenpump", 4.0), peer("libevent", 2.0)),
        case(1000, 1, peer("greenpump", 99.0)),
        case(1000, 1000, peer("greenpump_2processes", 3.0), peer("trio", 50.0)),
    ],
}


def results(directory: Path, **change: Any) -> Path:
    (directory / "ring.json").write_text(json.dumps(DATA | change))
    return directory


def test_a_line_has_the_points_of_its_active_pairs_in_order_of_fds() -> None:
    slower, faster = plots.lines(DATA, 100)
    assert slower == plots.Line("greenpump", (2000, 19800), (4.0, 8.0), (3.0, 7.0), (6.0, 10.0))
    assert (faster.peer, faster.median) == ("libevent", (2.0, 3.0))
    assert plots.lines(DATA, 10) == []


def test_several_cores_are_dashed_in_the_colour_of_one() -> None:
    one, two = plots.style("greenpump_nogil"), plots.style("greenpump_nogil_2hubs")
    assert one is not None
    assert two is not None
    assert (one.label, two.label) == ("greenpump without GIL", "greenpump without GIL, 2 hubs")
    assert one.colour == two.colour
    assert one.dashes != two.dashes
    other = plots.style("greenpump_16processes")
    assert other is not None
    assert other.label == "greenpump, 16 processes"
    assert other.colour != two.colour


def test_trio_is_left_out() -> None:
    assert plots.style("trio") is None


def drawn(directory: Path) -> dict[str, bytes]:
    """What the command leaves. In a process of its own: matplotlib keeps its fonts open."""
    # `make bench` installs it; `make test` does not need it for anything else.
    if find_spec("matplotlib") is None:
        pytest.skip("needs matplotlib: pip install -e '.[bench]'")
    command = [sys.executable, "-m", "bench", "plots", "--results", str(directory)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=50, capture_output=True)
    return {path.name: path.read_bytes() for path in directory.glob("*.png")}


def test_both_pictures_are_drawn_and_the_same_results_make_the_same_file(tmp_path: Path) -> None:
    first = drawn(results(tmp_path))
    assert sorted(first) == ["ring-100.png", "ring-1000.png"]
    assert all(image.startswith(b"\x89PNG") for image in first.values())
    assert drawn(tmp_path) == first


def test_a_case_that_was_not_measured_has_no_picture(tmp_path: Path) -> None:
    assert list(drawn(results(tmp_path, cases=DATA["cases"][:3]))) == ["ring-100.png"]


@pytest.mark.parametrize("change", [{"schema": 2}, {"cases": None}, {"cases": [{}]}])
def test_results_of_another_kind_are_refused(
    tmp_path: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plots", "--results", str(results(tmp_path, **change))]) == 2
    assert "ring.json" in capsys.readouterr().err


def test_without_results_it_says_how_to_get_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plots", "--results", str(tmp_path)]) == 2
    assert "python -m bench ring makes it" in capsys.readouterr().err
