from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from examples.sys_floor import run


@pytest.mark.parametrize("status", [0, 3])
def test_a_command_that_ends_in_time(status: int) -> None:
    assert run(["sh", "-c", f"exit {status}"], 60) == status


def test_a_command_that_does_not() -> None:
    assert run(["cat", "/dev/zero"], 0.005) == -signal.SIGTERM


def test_ctrl_c_goes_to_the_command() -> None:
    command = ["sh", "-c", "echo ready; exec cat"]
    with subprocess.Popen(
        [sys.executable, "-m", "examples.sys_floor", "60", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        program.send_signal(signal.SIGINT)
        assert program.wait(30) == 256 - signal.SIGINT


def test_the_mask_is_as_before() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    run(["true"], 60)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_command_that_is_not_there() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.sys_floor", "60", "no-such-command"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 127
    assert done.stderr == "[Errno 2] No such file or directory: 'no-such-command'\n"
