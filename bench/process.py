"""Starts a peer in a process of its own, and makes sure it ends.

The other half, inside that process, is `bench.child`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench import interpreters
from bench.gate import Gate
from bench.outcome import FailedError, MissingError
from bench.registry import Peer
from bench.workload import Params

ROOT = Path(__file__).parent.parent
EXIT_MISSING = 77  # what `bench.child` ends with when something isn't installed
STDERR_TAIL = 2000
START_PATIENCE = 120.0  # the first to need Go has its library compiled
STOP_PATIENCE = 5.0


class PeerProcess:
    """`with PeerProcess(peer, params, cpu) as process:` it runs inside and is gone afterwards.

    `cpus`: the core or cores it is pinned to, None for all. With a `gate` it starts with others.
    Raises MissingError when the Python that is to run the peer isn't here.
    """

    def __init__(
        self,
        peer: Peer,
        params: Params,
        cpus: int | Iterable[int] | None,
        gate: Gate | None = None,
    ) -> None:
        python, needed = interpreters.python(peer.interpreter)
        self._command = [python, "-m", "bench.child", peer.module, json.dumps(dict(params))]
        if cpus is not None:
            chosen = [cpus] if isinstance(cpus, int) else cpus
            self._command.append(",".join(map(str, chosen)))
        self._environment = {**os.environ, **needed, **(gate.environment if gate else {})}
        self._fds = gate.fds if gate else ()

    def __enter__(self) -> Self:
        # Files, not pipes: a peer that says a lot must not block on a full pipe.
        self._out = tempfile.TemporaryFile("w+")
        self._err = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._environment,
            pass_fds=self._fds,
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._out.close()
        self._err.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def stderr(self) -> str:
        self._err.seek(0)
        return self._err.read()[-STDERR_TAIL:].strip()

    def result(self, patience: float) -> dict[str, Any]:
        """What a peer that ends by itself has printed: one line of JSON."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            raise FailedError(f"not done after {patience:g} s", self.stderr()) from None
        self._out.seek(0)
        lines = self._out.read().splitlines()
        if self._process.returncode == EXIT_MISSING:
            missing = json.loads(lines[-1])
            raise MissingError(missing["what"], missing["install"])
        if self._process.returncode != 0:
            stderr = self.stderr()
            last_words = stderr.splitlines()[-1] if stderr else "nothing on stderr"
            raise FailedError(f"exit status {self._process.returncode}: {last_words}", stderr)
        if not lines:
            raise FailedError("ended without a result", self.stderr())
        result: dict[str, Any] = json.loads(lines[-1])
        return result

    def check_alive(self) -> None:
        """A server has no business ending: say why it did."""
        if self._process.poll() is not None:
            self.result(patience=0)
            raise FailedError("the server ended by itself", self.stderr())

    def wait_until_listening(self, port: int) -> None:
        deadline = time.monotonic() + START_PATIENCE
        while time.monotonic() < deadline:
            self.check_alive()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        raise FailedError(f"not listening after {START_PATIENCE:g} s", self.stderr())


def free_port(udp: bool = False) -> int:
    """A port nobody listens on now; it is told to the peer, for not every API can report one."""
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
