"""A start line for peers in several processes: all begin to be measured in the same moment.

A peer passes the gate between its set-up and what is measured. The harness opens the gate when all
have come. For a peer that is alone there is no gate, and `pass_gate` returns at once.

Two pipes do it. Each peer writes a byte to the first and lets go of it, so that its end of file
comes also when a peer has died; then it reads from the second, whose end of file is the start.
"""

from __future__ import annotations

import os
import select
import time
from types import TracebackType
from typing import Self

from bench.outcome import FailedError

VARIABLE = "BENCH_GATE"  # c/gate.h reads it, too


def pass_gate() -> None:
    """In a peer: say that it is ready, and wait for the others. Blocks the thread."""
    numbers = os.environ.get(VARIABLE)
    if numbers is None:
        return
    ready, go = map(int, numbers.split(","))
    os.write(ready, b"!")
    os.close(ready)
    os.read(go, 1)
    os.close(go)


class Gate:
    """In the harness: `with Gate() as gate`, start the peers with it, then `gate.open(n, 60)`."""

    def __enter__(self) -> Self:
        self._came, self._ready = os.pipe()
        self._go, self._opener = os.pipe()
        self._open_fds = {self._came, self._ready, self._go, self._opener}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        while self._open_fds:
            os.close(self._open_fds.pop())

    @property
    def fds(self) -> tuple[int, int]:
        """What a peer inherits."""
        return self._ready, self._go

    @property
    def environment(self) -> dict[str, str]:
        return {VARIABLE: f"{self._ready},{self._go}"}

    def open(self, peers: int, patience: float) -> None:
        """When all have come; or at once when one has died, whose result then says why."""
        self._close(self._ready)
        self._close(self._go)
        deadline = time.monotonic() + patience
        came = 0
        while came < peers:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._came], [], [], left)[0]:
                raise FailedError(f"{came} of {peers} processes ready after {patience:g} s")
            more = len(os.read(self._came, peers))
            if not more:
                break
            came += more
        self._close(self._opener)

    def _close(self, fd: int) -> None:
        self._open_fds.remove(fd)
        os.close(fd)
