from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

import greenpump as gp
from greenpump.debug.dump import dump, dump_on_signal
from greenpump.hub.local import this_hub
from greenpump.testing import wait_all_parked


def section(text: str, start: str) -> str:
    """The paragraph of the dump that starts so."""
    [found] = [part for part in text.split("\n\n") if part.startswith(start)]
    return found


def end(*tasks: gp.Task[None]) -> None:
    for task in tasks:
        task.cancel()
        task.join()


def test_each_task_with_its_wait_spawn_site_and_stack() -> None:
    a, b = gp.socketpair()

    def handle() -> None:
        b.recv(100)

    def not_yet() -> None: ...

    with a, b:
        reader = gp.spawn(handle)
        joiner: gp.Task[object] = gp.spawn(reader.join)
        wait_all_parked()
        fresh = gp.spawn(not_yet)
        text = dump()
        name = re.escape(reader.name)
        here = re.escape(__file__)
        assert re.fullmatch(
            rf"task {name}: read on fd {b.fileno()} for \d+\.\d\d\d s\n"
            rf'  spawned at {here}:\d+ in test_each_.*\n  File "{here}", line \d+, in handle\n'
            rf"    b.recv\(100\)\n(  File .*\n.*\n?)*",
            section(text, f"task {reader.name}"),
        )
        assert f"task {joiner.name}: join of task {reader.name} for " in text
        assert f"task {fresh.name}: not started for " in text
        mine = section(text, "task main of MainThread: running")
        assert mine.endswith(f"in {sys._getframe().f_code.co_name}\n    text = dump()")
        a.send(b"x")
        joiner.join()
        fresh.join()


def test_tasks_in_the_same_place_share_a_stack() -> None:
    def nap() -> None:
        gp.sleep(1000)

    tasks = [gp.spawn(nap) for _ in range(50)]
    gp.yield_now()
    text = dump()
    end(*tasks)
    [shared] = [part for part in text.split("\n\n") if "nap#" in part]
    assert all(f"task {task.name}: sleep for " in shared for task in tasks)
    assert shared.count("gp.sleep(1000)") == 1


def test_into_a_file() -> None:
    this_hub()
    file = io.StringIO()
    dump(file)
    assert file.getvalue().startswith(f"greenpump dump of process {os.getpid()}, ")


def test_detached_connections_are_counted() -> None:
    def on_readable() -> None: ...

    hub = this_hub()
    a, b = gp.socketpair()
    with a, b:
        b._pollable.register(hub)
        b._pollable.reader = gp.spawn(on_readable)
        hub.ready.remove(b._pollable.reader)
        assert re.search(r"\n  1 detached connections wait for test_.*on_readable\n", dump())
        b._pollable.reader = None


def test_from_a_thread_without_a_hub_and_with_hubs_in_others() -> None:
    this_hub()
    parked, go_on = threading.Event(), threading.Event()
    texts: list[str] = []

    def other() -> None:
        def nap() -> None:
            gp.sleep(1000)

        task = gp.spawn(nap)
        gp.yield_now()
        parked.set()
        go_on.wait(30)
        end(task)
        this_hub().close()

    def onlooker() -> None:
        texts.append(dump())

    holder = threading.Thread(target=other, name="holder")
    holder.start()
    try:
        assert parked.wait(30)
        plain = threading.Thread(target=onlooker, name="plain")
        plain.start()
        plain.join()
    finally:
        go_on.set()
        holder.join()
    [text] = texts
    assert "go_on.wait(30)" in section(text, "task main of holder: running")
    assert "nap#" in text
    assert "texts.append(dump())" in section(text, "thread plain: no hub")
    assert "task main of MainThread: running" in text
    assert "thread MainThread" not in text


def test_a_wait_that_cannot_say_what_it_is_spoils_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    task = gp.spawn(gp.sleep, 1000)
    gp.yield_now()

    class Torn:
        def reason(self, task: object) -> str:
            raise AttributeError("reader")

    before, task.wait = task.wait, Torn()  # type: ignore[assignment]
    text = dump()
    task.wait = before
    end(task)
    assert f"task {task.name}: in the middle of a step (AttributeError('reader'))\n" in text
    assert "task main of MainThread" in text


def test_the_handler_is_the_main_threads_business() -> None:
    errors: list[BaseException] = []

    def other() -> None:
        try:
            dump_on_signal()
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])
    with pytest.raises(OSError, match="Invalid argument"):
        dump_on_signal(signal.SIGKILL)


def test_the_handler_that_was_there_is_returned() -> None:
    before = dump_on_signal(signal.SIGUSR2)
    assert before is signal.SIG_DFL
    assert signal.signal(signal.SIGUSR2, before) not in (None, before)


# -- the signal ----------------------------------------------------------------------------------

PREAMBLE = """
import math, sys, threading, time, socket
import greenpump as gp
from greenpump.debug.dump import dump_on_signal
dump_on_signal()

def bystander():
    sys.stdin.read()  # the last line of a dump: threads without a hub come last

threading.Thread(target=bystander, name="bystander", daemon=True).start()
"""


def ask(program: str) -> str:
    """What SIGQUIT has the program print, once it has said "ready" and sleeps. It must live on."""
    with subprocess.Popen(
        [sys.executable, "-u", "-c", PREAMBLE + textwrap.dedent(program)],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            assert child.stdout.readline() == "ready\n"
            for _ in range(2):  # and once more, to see that it went back to sleep
                wait_until_asleep(child.pid)
                child.send_signal(signal.SIGQUIT)
                text = ""
                while "thread bystander: no hub" not in text:
                    line = child.stderr.readline()
                    assert line, f"it died: {text}"
                    text += line
                while not child.stderr.readline().startswith('  File "<string>"'):
                    pass
            assert child.poll() is None
        finally:
            child.kill()
    return text


def wait_until_asleep(pid: int) -> None:
    """Until the main thread sleeps in the kernel."""
    while True:
        with open(f"/proc/{pid}/stat") as stat:
            if stat.read().rpartition(")")[2].split()[0] == "S":
                return


def test_a_hub_asleep_in_accept() -> None:
    text = ask("""
        def serve():
            listener = gp.listen(("127.0.0.1", 0))
            print("ready")
            listener.accept()
        gp.spawn(serve).join()
        """)
    assert "hub of MainThread: 2 tasks" in text
    assert re.search(r"task serve#1: read on fd \d+ for ", text)
    assert "task main of MainThread: join of task serve#1 for " in text


def test_a_main_thread_that_blocks_without_a_hub() -> None:
    text = ask("""
        def other():
            gp.spawn(gp.sleep, 1000)
            print("ready")
            gp.sleep(1000)
        threading.Thread(target=other, name="other", daemon=True).start()
        listener = socket.create_server(("127.0.0.1", 0))
        listener.accept()
        """)
    assert "hub of other: 2 tasks" in text
    assert "task main of other: sleep for " in text
    assert "thread MainThread: no hub\n" in text


def test_a_main_thread_that_waits_in_a_lock() -> None:
    text = ask("""
        gp.spawn(gp.sleep, 1000)
        gp.sleep(0)
        print("ready")
        threading.Event().wait()
        """)
    assert "task main of MainThread: running" in text
    assert "task sleep#1: sleep for " in text


def test_a_task_that_computes() -> None:
    with subprocess.Popen(
        [
            sys.executable,
            "-uc",
            PREAMBLE + "def spin():\n  print('ready')\n  while True: pass\ngp.spawn(spin).join()",
        ],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            assert child.stdout.readline() == "ready\n"
            child.send_signal(signal.SIGQUIT)
            while "task spin#1: running" not in child.stderr.readline():
                assert child.poll() is None
        finally:
            child.kill()


def test_a_handler_that_fails_harms_nobody() -> None:
    """It may have interrupted the scheduler, where an exception would break the hub."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent("""
                import os, signal
                import greenpump as gp
                from greenpump.debug import dump
                dump.dump_on_signal()
                dump.hubs = None
                gp.spawn(os.kill, os.getpid(), signal.SIGQUIT).join()
                gp.spawn(print, "going on").join()
                """),
        ],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == "going on\n"
    assert done.stderr.startswith("greenpump: the dump failed: AttributeError")


def test_a_full_stderr_does_not_hang_the_program() -> None:
    """A pipe nobody reads, in non-blocking mode: what doesn't fit is dropped after a second."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent("""
                import os, signal
                import greenpump as gp
                from greenpump.debug import dump
                reader, writer = os.pipe()
                os.set_blocking(writer, False)
                os.dup2(writer, 2)
                try:
                    while True:
                        os.write(2, bytes(4096))
                except BlockingIOError:
                    pass
                dump.PATIENCE_MS = 1
                dump.dump_on_signal()
                gp.spawn(os.kill, os.getpid(), signal.SIGQUIT).join()
                print("going on")
                """),
        ],
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == "going on\n"
