"""``python -m examples.barrier``: its parts, and the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import greenpump as gp
from examples.barrier import GLIDER, Life

ROOT = Path(__file__).parents[2]


def test_a_glider_is_itself_one_step_down_after_four_generations() -> None:
    life = Life(GLIDER)
    with gp.Group() as group:
        for y in range(len(life.rows)):
            group.spawn(life.live, y, 4)
    moved = [line[-1] + line[:-1] for line in GLIDER.splitlines()]
    moved = moved[-1:] + moved[:-1]
    assert len(life.shown) == 4
    assert life.shown[-1].splitlines() == moved


def test_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.barrier"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "........",
        "#.#.....",
        ".##.....",
        ".#......",
        "........",
        "........",
        "",
        "........",
        "..#.....",
        "#.#.....",
        ".##.....",
        "........",
        "........",
        "",
        "........",
        ".#......",
        "..##....",
        ".##.....",
        "........",
        "........",
        "",
        "........",
        "..#.....",
        "...#....",
        ".###....",
        "........",
        "........",
    ]
    assert done.stderr == ""
