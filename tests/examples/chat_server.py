"""The chat as people run it: a process of its own, which tests may kill and start again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent


class ChatServer:
    """``python -m examples.chat`` on one port; in a with-statement it is running."""

    def __init__(self, *options: str) -> None:
        self.options = options
        self.port = 0
        self.url = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it: on a free port at first, later on the same."""
        self._process = run_chat("--port", str(self.port), *self.options)
        self.port = announced_port(self._process)
        self.url = f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> ChatServer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()


class Process(subprocess.Popen[str]):
    """One that a test which fails doesn't wait for."""

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *rest)


def run_chat(*arguments: str, stderr: int | None = None) -> Process:
    """The chat in a process of its own; its stdout is a pipe. Without a store it is in memory."""
    command = [sys.executable, "-m", "examples.chat", "--store", "memory", *arguments]
    return Process(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True)


def announced_port(process: subprocess.Popen[str]) -> int:
    """The port that the chat names; it listens by then, so whoever connects is let in."""
    assert process.stdout is not None
    said = process.stdout.readline()
    found = re.match(r"The chat is at https?://[\d.]+:(\d+) ", said)
    assert found is not None, f"the chat said {said!r} and ended with {process.wait()}"
    return int(found[1])
