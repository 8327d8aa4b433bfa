"""``python -m examples.waitgroup``: its parts, and the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import greenpump as gp
from examples.waitgroup import Crawl
from greenpump.testing import virtual_clock

ROOT = Path(__file__).parents[2]


@virtual_clock()
def test_the_end_is_when_no_page_is_on_its_way() -> None:
    site = {f"/{number}": [f"/{2 * number}", f"/{2 * number + 1}"] for number in range(1, 64)}
    crawl = Crawl(site)
    crawl.visit("/1")
    waiter = gp.spawn(crawl.running.wait)
    assert waiter.result()
    assert sorted(crawl.seen.values()) == ["missing"] * 64 + ["ok"] * 63


def test_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.waitgroup"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "/: ok",
        "/about: ok",
        "/about/jobs: ok",
        "/gone: missing",
        "/news: ok",
        "/news/1: ok",
        "/news/2: ok",
        "/shop: ok",
    ]
    assert done.stderr == ""
