"""The load generator (`c/loadgen.c`): closed-loop echoes over TCP, UDP or TLS, all verified."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.build import binary
from bench.gate import Gate
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
    storm: bool = False
    """Every message over a new connection, which is closed after it."""
    udp: bool = False
    certificate: Path | None = None
    """Speak TLS, and trust this."""

    def command(self) -> list[str]:
        if self.certificate is None:
            command = [str(binary("loadgen"))]
        else:
            program = binary("loadgen", ["ssl", "crypto"], needs="libssl-dev", define=["TLS"])
            command = [str(program), "--certificate", str(self.certificate)]
        command += [f"--{option}" for option in ("storm", "udp") if getattr(self, option)]
        return command + self.options()

    def options(self) -> list[str]:
        """What every load generator understands."""
        options = []
        for option in ("port", "connections", "size", "warmup", "seconds", "messages", "cpu"):
            value = getattr(self, option)
            if value is not None:
                options += [f"--{option}", str(value)]
        for pid in self.pids:
            options += ["--pid", str(pid)]
        return options

    def run(self) -> dict[str, Any]:
        """The generator's own report. Raises FailedError if a single echo was wrong or absent."""
        (report,) = run_together([self])
        return report


def run_together(loads: Sequence[Load]) -> list[dict[str, Any]]:
    """Each generator's report. They start when all have their connections open and answered."""
    with ExitStack() as stack:
        gate = stack.enter_context(Gate()) if len(loads) > 1 else None
        running = [stack.enter_context(_running(load, gate)) for load in loads]
        if gate is not None:
            gate.open(len(loads), SLACK)
        return [_finish(load, process) for load, process in zip(loads, running, strict=True)]


@contextmanager
def _running(load: Load, gate: Gate | None) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        load.command(),
        env={**os.environ, **(gate.environment if gate else {})},
        pass_fds=gate.fds if gate else (),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()  # one that is done doesn't mind


def _finish(load: Load, process: subprocess.Popen[str]) -> dict[str, Any]:
    patience = load.warmup + load.seconds + SLACK
    try:
        said, complaints = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        raise FailedError(f"the load was not done after {patience:g} s") from None
    if not said:
        raise FailedError("the load generator failed", complaints)
    return checked(said, load.connections)


@dataclass(frozen=True)
class Held:
    """Connections that were answered once, and stay open until the block ends."""

    process: subprocess.Popen[str]
    connections: int

    def ask(self) -> None:
        """Have every connection answered once more. Raises FailedError when one is not."""
        self.tell()
        self.report()

    def tell(self) -> None:
        """Begin to have every connection answered once more; `report` waits until they are."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("?")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it is gone; the report says so

    def report(self) -> None:
        """Waits until every connection is open, or answered. Raises FailedError."""
        checked(self._line(), self.connections)

    def arrivals(self) -> list[int]:
        """When each subscriber had what somebody else said: after `report`, in monotonic ns."""
        came: list[int] = json.loads(self._line())
        return came

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise FailedError("the load generator failed")
        return line


@contextmanager
def held(load: Load) -> Iterator[Held]:
    """Opens the connections, has each answered once, and keeps them open and idle inside."""
    with opening(load) as holding:
        holding.report()
        yield holding


@contextmanager
def opening(load: Load) -> Iterator[Held]:
    """The same, but they are being opened when the block begins; `report` waits until they are."""
    process = subprocess.Popen(
        [*load.command(), "--hold"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Held(process, load.connections)
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


def merged(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """As one. The latencies are the longest of each kind, which those of all don't exceed."""
    added = ("messages", "cpu_ns", "load_cpu_ns")
    longest = ("seconds", "p50_us", "p99_us")
    total = {key: sum(report[key] for report in reports) for key in added}
    return total | {key: max(report[key] for report in reports) for key in longest}


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
