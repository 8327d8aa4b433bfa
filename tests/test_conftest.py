"""The leak check and `require` must be able to fail: each is run on a test that deserves it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests import conftest

# A child gets the same checks by loading the same file as a plugin.
OPTIONS = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-q"]


def run_pytest(source: str, tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    test = tmp_path / "test_it.py"
    test.write_text(source)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    environ = {key: value for key, value in os.environ.items() if key != "CI"}
    environ |= {"PYTHONPATH": str(Path(__file__).parent.parent)} | env
    return subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, str(test)],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_leaks_fail_the_test_that_made_them(tmp_path: Path) -> None:
    run = run_pytest(
        """
import os, socket, threading
from tests import conftest
conftest.GRACE = 0.2  # four tests wait it out
kept = []
def test_fd(): kept.extend(socket.socketpair())
def test_raw_fd(): os.open("/dev/null", os.O_RDONLY)
def test_reused_number():
    fd = kept.pop().detach()
    os.close(fd)
    assert os.eventfd(0) == fd
def test_thread():
    threading.Thread(target=threading.Event().wait, name="idler", daemon=True).start()
def test_clean(tmp_path):
    with socket.create_server(("127.0.0.1", 0)): pass
    thread = threading.Thread(target=int); thread.start(); thread.join()
def test_a_hub_and_an_idle_pool_thread_may_stay():
    from greenpump import offload
    assert offload(threading.current_thread) is not threading.current_thread()
def test_fails_once():
    end = os.dup(0)
    assert end < 0
""",
        tmp_path,
    )
    assert "1 failed, 6 passed, 4 errors" in run.stdout, run.stdout
    for line in (
        "left behind (2 socket):",
        "-> socket:[",
        "-> /dev/null",
        "-> anon_inode:[eventfd]",
        "'idler'",
    ):
        assert line in run.stdout, run.stdout


def test_a_thread_that_never_ends_does_not_hang_the_run(tmp_path: Path) -> None:
    run = run_pytest(
        """
import threading
from tests import conftest
conftest.GRACE = 0.2
def test_hangs():
    threading.Thread(target=threading.Event().wait, name="for ever").start()
    raise AssertionError
""",
        tmp_path,
    )
    assert run.returncode == 1
    assert "1 failed" in run.stdout
    assert run.stderr == "exiting though threads still run: 'for ever'\n"


MISSING = """
from tests.conftest import require
def test_there(): require("sh", True, "it is there")
def test_missing(): require("redis", False, "apt-get install redis-server")
def test_missing_too(require): require("redis", None, "apt-get install redis-server")
"""


def test_require_skips_where_a_person_works(tmp_path: Path) -> None:
    run = run_pytest(MISSING + "import pytest", tmp_path)
    assert run.returncode == 0, run.stdout
    assert "1 passed, 2 skipped" in run.stdout


def test_require_fails_in_ci(tmp_path: Path) -> None:
    run = run_pytest(MISSING, tmp_path, CI="true")
    assert "2 failed, 1 passed" in run.stdout, run.stdout
    assert "needs redis: apt-get install redis-server" in run.stdout


def test_the_fds_of_live_hubs_are_no_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    before = conftest.open_fds()
    mine, other = socket.socketpair()
    with mine, other:
        monkeypatch.setattr(conftest, "hub_fds", lambda: {mine.fileno()})
        assert list(conftest.leaked_fds(before)) == [other.fileno()]


def test_threads_are_named() -> None:
    before = conftest.os_threads()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="a thread")
    thread.start()
    try:
        assert conftest.leaked_threads(before) == {thread.native_id: "a thread"}
    finally:
        stop.set()
        thread.join()
