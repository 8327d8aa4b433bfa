"""A real redis-server for one test: on a unix folder of its own, which a kill doesn't take away."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.conftest import require

ALWAYS = "--appendonly yes --appendfsync always --save ''"


class RedisServer:
    """In a with-statement it is running; ``safety``: its options that say when it writes to disk.

    By itself it syncs each write before it says that it is done.
    """

    def __init__(self, folder: Path, safety: str = ALWAYS) -> None:
        self._safety = safety
        program = shutil.which("redis-server")
        require("redis-server", program, "apt-get install redis-server")
        self._program = str(program)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = f"--port {self.port} --bind 127.0.0.1 --dir {self._folder} --loglevel warning"
        options += f" {self._safety}"
        command = [self._program, *(each.strip("'") for each in options.split(" "))]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, "redis-server ended at once"
            assert time.monotonic() < deadline, "redis-server doesn't listen"
            time.sleep(0.01)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def flush(self) -> None:
        """Forget all."""
        self._command(b"FLUSHALL\r\n")

    def save(self) -> None:
        """Write to the disk what there is now."""
        self._command(b"SAVE\r\n")

    def _command(self, command: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as conn:
            conn.sendall(command)
            assert conn.recv(100) == b"+OK\r\n"

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=20) as conn:
                conn.sendall(b"PING\r\n")
                return conn.recv(100) == b"+PONG\r\n"
        except OSError:
            return False

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
