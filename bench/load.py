"""The load generator (`c/loadgen.c`): closed-loop echo connections, every byte verified."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.build import binary
from bench.outcome import FailedError
from bench.workload import Sample

SLACK = 120.0  # seconds for connecting and draining, generous: slow isn't wrong


@dataclass(frozen=True)
class Load:
    port: int
    connections: int
    size: int = 64
    warmup: float = 0.5
    seconds: float = 2.0
    messages: int = 0
    """Measure this many instead, if they take less than `seconds`; 0 is no such limit."""
    pids: Sequence[int] = ()
    """The servers whose CPU time is read when the measured interval starts and stops."""
    cpu: int | None = None

    def command(self) -> list[str]:
        command = [str(binary("loadgen"))]
        for option in ("port", "connections", "size", "warmup", "seconds", "messages", "cpu"):
            value = getattr(self, option)
            if value is not None:
                command += [f"--{option}", str(value)]
        for pid in self.pids:
            command += ["--pid", str(pid)]
        return command

    def run(self) -> dict[str, Any]:
        """The generator's own report. Raises FailedError if a single echo was wrong or absent."""
        patience = self.warmup + self.seconds + SLACK
        try:
            done = subprocess.run(
                self.command(),
                capture_output=True,
                text=True,
                check=False,
                timeout=patience,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise FailedError(f"the load was not done after {patience:g} s") from None
        if not done.stdout:
            raise FailedError("the load generator failed", done.stderr)
        return checked(done.stdout, self.connections)


@contextmanager
def held(load: Load) -> Iterator[None]:
    """Opens the connections, has each answered once, and keeps them open and idle inside."""
    process = subprocess.Popen(
        [*load.command(), "--hold"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise FailedError("the load generator failed")
        checked(line, load.connections)
        yield
    finally:
        process.communicate()  # closes its stdin, which ends it


def checked(line: str, connections: int) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(line)
    if report["errors"]:
        raise FailedError(
            f"wrong results on {report['errors']} of {connections} connections: "
            f"{report['first_error']}"
        )
    return report


def per_message(report: dict[str, Any]) -> Sample:
    """What an echo report says of the server."""
    messages, seconds = report["messages"], report["seconds"]
    if not messages:
        raise FailedError("no message was echoed in the measured interval")
    return {
        "cpu_us": report["cpu_ns"] / 1e3 / messages,
        "throughput": messages / seconds,
        "p50_us": report["p50_us"],
        "p99_us": report["p99_us"],
        "busy": report["cpu_ns"] / 1e7 / seconds,
        "load_busy": report["load_cpu_ns"] / 1e7 / seconds,
        "messages": messages,
    }
