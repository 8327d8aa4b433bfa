"""What the figures were measured on, so that they can be told from those of another machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import interpreters
from bench.process import ROOT

LIBRARIES = (
    "greenpump",
    "greenlet",
    "gevent",
    "gevent-websocket",
    "eventlet",
    "uvloop",
    "websockets",
    "rloop",
    "trio",
    "curio",
)


def describe() -> dict[str, Any]:
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "freethreaded": _freethreaded(),
        "gcc": _first_line("gcc", "-dumpfullversion"),
        "go": _first_line("go", "env", "GOVERSION"),
        "libevent": _first_line("pkg-config", "--modversion", "libevent"),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "commit": _first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
    }


def load_average() -> float:
    """Over the last minute: above 0 before a run, others were using the machine."""
    return round(os.getloadavg()[0], 2)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _freethreaded() -> str | None:
    path = interpreters.freethreaded()
    return None if path is None else interpreters.version(path)


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _first_line(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
