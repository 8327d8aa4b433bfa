"""Prefork, in programs of their own: who serves, who is replaced, how all end."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from greenpump.sys.pidfd import Pidfd

ROOT = Path(__file__).parent.parent.parent

PROGRAM = """
import atexit, logging, os, signal, sys, threading
import greenpump as gp
from greenpump.net.listen import listen
from greenpump.net.serve import serve
logging.basicConfig(level=logging.INFO, format="%(message)s")
supervisor = os.getpid()
atexit.register(lambda: print("exit of", "supervisor" if os.getpid() == supervisor else "worker"))

def handler(conn, peer):
    while order := conn.recv(100):
        if order == b"die":
            os._exit(3)
        if order == b"exit":
            raise SystemExit(4)
        if order == b"hang":
            conn.sendall(b"ok")
            with gp.shield():
                gp.sleep(1000)
        if order == b"tasks":
            conn.sendall(b"%d" % len(gp.current().hub.live_tasks()))
        else:
            conn.sendall(b"%d" % os.getpid())

def cleanup():
    try:
        gp.sleep(1000)
    finally:
        print("cleaned up in", "supervisor" if os.getpid() == supervisor else "worker", flush=True)

SETUP
print(listener.getsockname()[1] if isinstance(listener.getsockname(), tuple) else 0, flush=True)
try:
    serve(handler, listener, processes=2, KEYWORDS)
    print("returned")
except KeyboardInterrupt:
    print("interrupted")
"""

TCP = 'listener = listen(("127.0.0.1", 0), reuse_port=True)'
SHARED = 'listener = listen(("127.0.0.1", 0))'


class Program:
    def __init__(self, setup: str, keywords: str) -> None:
        source = PROGRAM.replace("SETUP", textwrap.dedent(setup)).replace("KEYWORDS", keywords)
        self.process = subprocess.Popen(
            [sys.executable, "-c", source],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        line = self.out.readline()
        assert line, self.process.communicate()[1]
        self.port = int(line)

    @property
    def out(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def ask(self, order: bytes) -> bytes:
        with self.connect() as conn:
            conn.sendall(order)
            return conn.recv(100)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def workers(self, count: int) -> set[int]:
        """The pids of ``count`` workers that answer."""
        seen: set[int] = set()
        for _ in range(2000):
            seen.add(int(self.ask(b"pid")))
            if len(seen) == count:
                break
        return seen

    def end(self, signum: int) -> tuple[list[str], str, int]:
        self.process.send_signal(signum)
        out, err = self.process.communicate(timeout=30)
        return out.splitlines(), err, self.process.returncode


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    begun: list[Program] = []

    def begin(setup: str = TCP, keywords: str = "grace=5") -> Program:
        begun.append(Program(setup, keywords))
        return begun[-1]

    yield begin
    for each in begun:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate(timeout=30)


def wait_for_end(pid: int) -> None:
    """Of a process that isn't our child."""
    try:
        with Pidfd(pid) as process:
            assert select.select([process.fileno()], [], [], 20)[0]
    except ProcessLookupError:
        pass


@pytest.mark.parametrize("setup", [TCP, SHARED])
def test_every_worker_serves_and_the_supervisor_does_not(
    program: Callable[..., Program], setup: str
) -> None:
    server = program(setup)
    pids = server.workers(2)
    assert len(pids) == 2
    assert server.process.pid not in pids
    out, err, status = server.end(signal.SIGTERM)
    assert (out, status) == (["returned", "exit of supervisor"], 0)
    assert err == ""
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize(
    ("order", "how"), [(b"die", "ended with status 3"), (b"exit", "ended with status 4")]
)
def test_a_worker_that_ends_is_replaced(
    program: Callable[..., Program], order: bytes, how: str
) -> None:
    server = program()
    before = server.workers(2)
    assert server.ask(order) == b""
    after = server.workers(2)
    assert len(after) == 2
    assert len(before & after) == 1
    _, err, status = server.end(signal.SIGTERM)
    assert how in err
    assert "another one starts in 0.1 s" in err
    assert status == 0


def test_a_worker_that_is_killed_is_replaced(program: Callable[..., Program]) -> None:
    server = program()
    before = server.workers(2)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    wait_for_end(victim)
    after = server.workers(2)
    assert victim not in after
    assert len(after) == 2
    assert f"(pid {victim}) was ended by SIGKILL" in server.end(signal.SIGTERM)[1]


def test_ctrl_c_ends_them_all(program: Callable[..., Program]) -> None:
    server = program()
    pids = server.workers(2)
    for pid in pids:  # the terminal sends it to the whole group
        os.kill(pid, signal.SIGINT)
    out, err, status = server.end(signal.SIGINT)
    assert (out, status) == (["interrupted", "exit of supervisor"], 0)
    assert "Traceback" not in err


def test_handlers_have_their_grace(program: Callable[..., Program]) -> None:
    server = program()
    with server.connect() as conn:
        conn.sendall(b"pid")
        pid = int(conn.recv(100))
        server.process.send_signal(signal.SIGTERM)
        while True:  # until nobody listens any more
            try:
                server.connect().close()
            except OSError:
                break
        conn.sendall(b"pid")
        assert int(conn.recv(100)) == pid
    out, _ = server.process.communicate(timeout=30)
    assert out.splitlines() == ["returned", "exit of supervisor"]


def test_a_worker_that_does_not_end_is_killed(program: Callable[..., Program]) -> None:
    server = program(
        "import greenpump.net.serve as _; import sys\n"
        'sys.modules["greenpump.net.prefork"].KILL_AFTER = 0.1\n' + TCP,
        "grace=0",
    )
    with server.connect() as conn:
        conn.sendall(b"hang")
        assert conn.recv(100) == b"ok"
        out, err, _ = server.end(signal.SIGTERM)
    assert out == ["returned", "exit of supervisor"]
    assert "is killed: it has not ended 0.1 s after SIGTERM" in err


def test_workers_end_with_a_supervisor_that_was_killed(program: Callable[..., Program]) -> None:
    server = program()
    pids = server.workers(2)
    server.process.kill()
    server.process.wait(20)
    for pid in pids:
        wait_for_end(pid)


def test_a_worker_has_none_of_the_supervisors_tasks(program: Callable[..., Program]) -> None:
    server = program("gp.spawn(cleanup)\n" + TCP)
    # Its handler and the watch on the supervisor.
    assert server.ask(b"tasks") == b"2"
    out, _, _ = server.end(signal.SIGTERM)
    assert "cleaned up in worker" not in out


def test_a_program_inside_run_can_prefork(program: Callable[..., Program]) -> None:
    server = program(
        """
        original = serve
        def serve(*args, **keywords):
            gp.run(lambda: original(*args, **keywords))
        """
        + "\n"
        + TCP
    )
    assert len(server.workers(2)) == 2
    assert server.end(signal.SIGTERM)[0] == ["returned", "exit of supervisor"]


def test_a_handler_of_the_program_for_sigterm_is_left_alone(
    program: Callable[..., Program],
) -> None:
    server = program(
        "signal.signal(signal.SIGTERM, lambda *_: (print('mine', flush=True), os._exit(7)))\n" + TCP
    )
    pids = server.workers(2)
    out, _, status = server.end(signal.SIGTERM)
    assert (out, status) == (["mine"], 7)
    for pid in pids:
        wait_for_end(pid)


def test_the_limit_is_shared_and_hubs_multiply(program: Callable[..., Program]) -> None:
    server = program(keywords="limit=2, hubs=2")
    assert len(server.workers(2)) == 2
    assert server.end(signal.SIGTERM)[0] == ["returned", "exit of supervisor"]
