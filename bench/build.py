"""Compiles the sources under `bench/c/` and `bench/go/` when first needed, into `bench/.build/`."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.outcome import FailedError, MissingError

SOURCES = Path(__file__).parent / "c"
GO_SOURCES = Path(__file__).parent / "go"
BUILD = Path(__file__).parent / ".build"
FLAGS = ("-O2", "-Wall", "-Wextra")
GO_FLAGS = ("-trimpath",)


def binary(
    name: str, libraries: Sequence[str] = (), needs: str = "", define: Sequence[str] = ()
) -> Path:
    """The program made from `c/<name>.c`. `needs` names the Debian package of its libraries.

    The file name carries a digest of source, headers and flags, so an edited source is a new
    program and an old one is never run by mistake; the rename makes concurrent builds harmless.
    """
    source = SOURCES / f"{name}.c"
    text = b"".join(path.read_bytes() for path in (source, *sorted(SOURCES.glob("*.h"))))
    macros = [f"-D{macro}" for macro in define]
    options = [*FLAGS, *macros, *(f"-l{library}" for library in libraries)]
    program = _place(name, text, options)
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


def go_binary() -> Path:
    """The program made from `go/*.go`, all of Go's peers: its first argument says which."""
    sources = sorted(GO_SOURCES.glob("*.go"))
    text = b"".join(source.read_bytes() for source in sources)
    program = _place("go_peers", text, GO_FLAGS)
    if program.exists():
        return program
    compiler = shutil.which("go")
    if compiler is None:
        raise MissingError("go", "apt-get install golang-go")
    BUILD.mkdir(exist_ok=True)
    unfinished = BUILD / f"{program.name}.{os.getpid()}"
    # Nothing is downloaded: the standard library alone. The cache stays in the tree, too.
    environment = os.environ | {
        "CGO_ENABLED": "0",
        "GO111MODULE": "off",
        "GOCACHE": str(BUILD / "go-cache"),
        "GOFLAGS": "",
    }
    command = [compiler, "build", *GO_FLAGS, "-o", str(unfinished), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise FailedError("go could not compile the peers", done.stderr)
    unfinished.replace(program)
    return program


def _place(name: str, text: bytes, options: Sequence[str]) -> Path:
    digest = hashlib.sha256(text + " ".join(options).encode()).hexdigest()[:12]
    return BUILD / f"{name}-{digest}"
