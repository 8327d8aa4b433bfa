"""Which Python runs a peer: this one, or the free-threaded one that `.ci/freethreaded` makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench.outcome import MissingError

HOW_TO_MAKE = "make test-freethreaded"


def python(interpreter: str) -> tuple[str, dict[str, str]]:
    """The program, and what it needs in its environment. Raises MissingError."""
    if not interpreter:
        return sys.executable, {}
    if interpreter != "freethreaded":
        raise ValueError(f"no such interpreter: {interpreter}")
    path = freethreaded()
    if path is None:
        raise MissingError("a free-threaded CPython with greenlet", HOW_TO_MAKE)
    # Without it an extension module that does not promise to be safe turns the GIL on again; with
    # it a Python that cannot run without a GIL refuses to start.
    return str(path), {"PYTHON_GIL": "0"}


def freethreaded() -> Path | None:
    """The environment that `.ci/freethreaded` has completed, the newest; it is not built here."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("GREENPUMP_CACHE") or Path(home, "greenpump"))
    for version in ("3.14", "3.13"):
        venv = cache / f"venv{version}"
        if (venv / ".complete").exists():
            return venv / "bin" / "python"
    return None


def version(path: Path) -> str:
    """Its version, and whether it has a GIL, by its own account."""
    code = (
        "import platform, sys; "
        "print(platform.python_version() + (' with GIL' if sys._is_gil_enabled() else ''))"
    )
    done = subprocess.run(
        [path, "-c", code],
        env={**os.environ, "PYTHON_GIL": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or done.stderr.strip()
