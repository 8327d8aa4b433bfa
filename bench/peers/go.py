"""Becomes one of Go's peers (`bench/go/`); not a peer itself."""

from __future__ import annotations

import os

from bench.build import go_binary


def become(role: str, *arguments: object) -> None:
    program = go_binary()
    os.execv(program, [program.name, role, *map(str, arguments)])
