"""Compiles the C sources under `bench/c/` when they are first needed, into `bench/.build/`."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.outcome import FailedError, MissingError

SOURCES = Path(__file__).parent / "c"
BUILD = Path(__file__).parent / ".build"
FLAGS = ("-O2", "-Wall", "-Wextra")


def binary(name: str, libraries: Sequence[str] = (), needs: str = "") -> Path:
    """The program made from `c/<name>.c`. `needs` names the Debian package of its libraries.

    The file name carries a digest of source and flags, so an edited source is a new program and
    an old one is never run by mistake; the rename makes concurrent builds harmless.
    """
    source = SOURCES / f"{name}.c"
    options = [*FLAGS, *(f"-l{library}" for library in libraries)]
    digest = hashlib.sha256(source.read_bytes() + " ".join(options).encode()).hexdigest()[:12]
    program = BUILD / f"{name}-{digest}"
    if program.exists():
        return program
    compiler = shutil.which("gcc")
    if compiler is None:
        raise MissingError("gcc", "apt-get install gcc libc6-dev")
    BUILD.mkdir(exist_ok=True)
    unfinished = BUILD / f"{program.name}.{os.getpid()}"
    command = [compiler, "-o", str(unfinished), str(source), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        # A header or library that isn't there: fatal error from cpp, or "cannot find" from ld.
        absent = "No such file or directory" in done.stderr or "cannot find -l" in done.stderr
        if needs and absent:
            raise MissingError(needs, f"apt-get install {needs}")
        raise FailedError(f"gcc could not compile {source.name}", done.stderr)
    unfinished.replace(program)
    return program
