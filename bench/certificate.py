"""A certificate for the servers that speak TLS, made by the openssl command, good for a month."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from bench.build import BUILD
from bench.outcome import FailedError, MissingError

DAYS = 30
RENEWED_AFTER = 20 * 86_400  # seconds


def certificate() -> tuple[Path, Path]:
    """Certificate and key, self-signed, ECDSA on P-256. Raises MissingError, FailedError."""
    both = BUILD / "certificate.pem"  # one file, so that the two never belong to different runs
    if both.exists() and time.time() - both.stat().st_mtime < RENEWED_AFTER:
        return both, both
    if shutil.which("openssl") is None:
        raise MissingError("openssl", "apt-get install openssl")
    BUILD.mkdir(exist_ok=True)
    unfinished = BUILD / f"{both.name}.{os.getpid()}"
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec"]
    command += ["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", str(DAYS)]
    command += ["-keyout", "-", "-out", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FailedError("openssl could not make a certificate", done.stderr)
    unfinished.write_text(done.stdout)
    unfinished.replace(both)
    return both, both
