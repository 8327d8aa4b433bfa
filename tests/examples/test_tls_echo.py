"""``python -m examples.tls_echo``: a real server, and its own client."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
COMMAND = [sys.executable, "-X", "dev", "-W", "error", "-m", "examples.tls_echo"]


def start(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_what_is_typed_comes_back(require: Callable[[str, object, str], None]) -> None:
    require("the openssl command", shutil.which("openssl"), "apt install openssl")
    server = start("--self-signed", "--port", "0")
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        said = re.fullmatch(r"TLS echo on 127\.0\.0\.1 port (\d+); certificate (.*)\n", line)
        assert said is not None, line
        address = f"localhost:{said[1]}"
        client = start("--ask", address, "--trust", said[2])
        assert client.communicate("one\ntwo\n", PATIENCE) == ("one\ntwo\n", "")
        assert client.returncode == 0
        stranger = start("--ask", address)
        _, errors = stranger.communicate("one\n", PATIENCE)
        assert stranger.returncode == 1
        assert "certificate verify failed" in errors
        server.send_signal(signal.SIGINT)
        output, errors = server.communicate(timeout=PATIENCE)
        assert (server.returncode, errors) == (0, "")
        assert output.startswith("127.0.0.1: TLSv1.3 ")
    finally:
        server.kill()
        server.communicate()


def test_a_server_needs_a_certificate() -> None:
    process = start("--port", "0")
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert "--self-signed" in errors
