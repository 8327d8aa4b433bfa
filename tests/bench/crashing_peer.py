"""A peer of the tests, which crashes when asked to."""

from __future__ import annotations

import os


def run(how: str) -> dict[str, object]:
    if how == "raise":
        raise RuntimeError("on purpose")
    if how == "import":
        raise ModuleNotFoundError("a file of ours", name="bench.peers.forgotten")
    return {"affinity": sorted(os.sched_getaffinity(0))}
