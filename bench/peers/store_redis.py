"""Redis, where the processes of a chat meet: on the disk before it says that it is done."""

from __future__ import annotations

import os
import shutil

from bench.outcome import MissingError


def run(port: int, recv_size: int, folder: str) -> None:
    program = shutil.which("redis-server")
    if program is None:
        raise MissingError("redis-server", "apt-get install redis-server")
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": folder,
        "save": "",
        "appendonly": "yes",
        "appendfsync": "always",
        "loglevel": "warning",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    os.execv(program, [program, *words])
