"""run and Popen: real children, beside what the stdlib does with the same arguments."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, CalledProcessError, TimeoutExpired
from typing import Any

import pytest

import greenpump as gp
from greenpump.files.opening import pipe
from greenpump.files.stream import Stream
from greenpump.files.text import TextStream
from greenpump.hub.local import this_hub
from greenpump.process import Popen, run
from greenpump.testing import wait_all_parked

ROOT = Path(__file__).parents[1]
FOREVER = ["sleep", "1000"]
STUBBORN = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1000; done"]


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def python(source: str) -> list[str]:
    return [sys.executable, "-c", source]


def outcome(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a call came to, in a form that can be compared."""
    try:
        result = fn(*args, **kwargs)
    except (subprocess.SubprocessError, OSError, ValueError, TypeError, LookupError) as error:
        if isinstance(error, (CalledProcessError, TimeoutExpired)):
            return type(error), error.output, error.stderr, str(error)
        return type(error), str(error)
    if isinstance(result, subprocess.CompletedProcess):
        return result.args, result.returncode, result.stdout, result.stderr
    return result


# -- as the stdlib ---------------------------------------------------------------------------------

LINES = "import sys; print('a\\r\\nb'); print('é', file=sys.stderr)"
CASES: list[tuple[Any, dict[str, Any]]] = [
    ("true", {}),
    (["true"], {}),
    ("exit 3", {"shell": True}),
    ("exit 3", {"shell": True, "check": True}),
    ("echo out; echo err >&2; exit 4", {"shell": True, "check": True, "capture_output": True}),
    ("kill -KILL $$", {"shell": True}),
    ("kill -TERM $$", {"shell": True, "check": True}),
    (["nosuchprogram"], {}),
    (["true"], {"cwd": "/nosuchfolder"}),
    ([], {}),
    (["cat"], {"input": b"text", "stdout": PIPE}),
    (["cat"], {"input": "text", "stdout": PIPE, "text": True}),
    (["cat"], {"input": "é\n", "capture_output": True, "encoding": "latin-1"}),
    (["cat"], {"input": "e€", "stdout": PIPE, "encoding": "ascii", "errors": "replace"}),
    (["cat"], {"input": "", "capture_output": True, "universal_newlines": True}),
    (["cat"], {"input": b"", "capture_output": True}),
    (["cat"], {"input": "text", "stdout": PIPE}),
    (["cat"], {"input": b"x", "stdin": PIPE}),
    (["cat"], {"stdout": PIPE, "capture_output": True}),
    (["cat"], {"stdin": DEVNULL, "stdout": PIPE}),
    (["true"], {"input": b"x" * 200_000}),
    (python(LINES), {"capture_output": True, "encoding": "utf-8"}),
    (python(LINES), {"capture_output": True}),
    (python(LINES), {"stdout": PIPE, "stderr": STDOUT}),
    (python(LINES), {"stdout": DEVNULL, "stderr": PIPE}),
    (["printf", r"\377"], {"stdout": PIPE, "encoding": "utf-8"}),
    (["true"], {"encoding": "nosuchcodec", "stdout": PIPE}),
    (["env"], {"env": {"A": "b"}, "stdout": PIPE}),
    (["pwd"], {"cwd": "/", "stdout": PIPE}),
    (["sh", "-c", "umask"], {"umask": 0o27, "stdout": PIPE}),
    (["sh", "-c", "echo begun; exec sleep 100"], {"timeout": 0.3, "stdout": PIPE}),
    (["sh", "-c", "echo x; exec sleep 100"], {"timeout": 0.3, "stdout": PIPE, "text": True}),
    (["sleep", "100"], {"timeout": 0}),
    (["sleep", "100"], {"timeout": 0.01, "capture_output": True}),
    (["true"], {"nosuchargument": 1}),
    (["true"], {"preexec_fn": lambda: os.write(1, b"hello"), "stdout": PIPE}),
    (["sh", "-c", "echo $0"], {"executable": "/bin/sh", "stdout": PIPE, "pipesize": 8192}),
    (["ls", "/proc/self/fd"], {"stdout": PIPE, "stderr": PIPE, "stdin": DEVNULL}),
    (["ls", "/proc/self/fd"], {"close_fds": False, "stdout": PIPE, "stdin": DEVNULL}),
]


@pytest.mark.parametrize(("args", "more"), CASES)
def test_run_does_what_subprocess_run_does(args: Any, more: dict[str, Any]) -> None:
    this_hub()
    mine, theirs = outcome(run, args, **more), outcome(subprocess.run, args, **more)
    if mine[0] is TimeoutExpired:
        mine, theirs = mine[:3], theirs[:3]  # the stdlib's text may say "after -1.8e-05 seconds"
    if mine[0] is TypeError or (mine[0] is ValueError and "executable" not in str(mine)):
        mine, theirs = mine[:1], theirs[:1]
    assert mine == theirs


TALKS: list[tuple[dict[str, Any], list[tuple[str, tuple[Any, ...]]]]] = [
    (
        {},
        [("write", (b"one\ntwo\n",)), ("readline", ()), ("read", (2,)), ("end", ()), ("read", ())],
    ),
    ({"text": True}, [("write", ("ä\nb\n",)), ("readline", ()), ("end", ()), ("readlines", ())]),
    ({"bufsize": 0}, [("write", (b"one\ntwo\n",)), ("read", (100,)), ("end", ()), ("read", ())]),
    ({"bufsize": 0}, [("write", (b"one\ntwo\n",)), ("readline", ()), ("end", ()), ("read", ())]),
    ({"bufsize": 1, "text": True}, [("write", ("x\n",)), ("readline", ()), ("end", ())]),
    ({"encoding": "utf-16-le"}, [("write", ("x\ny",)), ("end", ()), ("read", ())]),
]


@pytest.mark.parametrize(("more", "steps"), TALKS)
def test_pipes_answer_as_the_stdlibs(more: dict[str, Any], steps: list[Any]) -> None:
    answers: list[list[Any]] = []
    for kind in (Popen, subprocess.Popen):
        answers.append([])
        with kind(["cat"], stdin=PIPE, stdout=PIPE, **more) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            for name, args in steps:
                if name == "end":
                    child.stdin.close()
                elif name == "write":
                    answers[-1].append(child.stdin.write(*args))
                    child.stdin.flush()
                else:
                    answers[-1].append(getattr(child.stdout, name)(*args))
        answers[-1].append(child.returncode)
    assert answers[0] == answers[1]


def test_utf_16_has_its_byte_order_mark() -> None:
    # The stdlib's has none on a pipe, and then can't read what it wrote.
    assert run(["cat"], input="x\ny", stdout=PIPE, encoding="utf-16").stdout == "x\ny"
    with Popen(["cat"], stdin=PIPE, stdout=PIPE, encoding="utf-16") as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("x")
        child.stdin.write("y")
        child.stdin.close()
        assert child.stdout.read() == "xy"


def test_it_is_a_popen() -> None:
    with Popen(["cat"], stdin=PIPE, stdout=PIPE, text=True) as child:
        assert issubclass(Popen, subprocess.Popen)
        kinds: list[type] = [type(child.stdin), type(child.stdout)]
        assert kinds == [TextStream, TextStream]
        assert child.stderr is None
        assert child.args == ["cat"]
        assert child.pid > 0
        assert child.poll() is None
        assert repr(child).endswith("<Popen: returncode: None args: ['cat']>")
    assert child.returncode == 0


# -- parking ---------------------------------------------------------------------------------------


def test_others_run_while_it_waits() -> None:
    with Popen(["cat"], stdin=PIPE, stdout=PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        kind: type = type(child.stdout)
        assert kind is Stream
        reader = gp.spawn(child.stdout.read)
        waiters = [gp.spawn(child.wait) for _ in range(3)]
        wait_all_parked()
        child.stdin.write(b"hello")
        child.stdin.close()
        assert reader.result(30) == b"hello"
        assert [waiter.result(30) for waiter in waiters] == [0, 0, 0]


def test_big_output_both_ways() -> None:
    data = os.urandom(3_000_000)
    both = (
        "import sys; data = sys.stdin.buffer.read();"
        "sys.stderr.buffer.write(data[::-1]); sys.stdout.buffer.write(data)"
    )
    done = run(python(both), input=data, capture_output=True, check=True)
    assert done.stdout == data
    assert done.stderr == data[::-1]
    # And one that writes while it is still being written to.
    assert run(["cat"], input=data, stdout=PIPE).stdout == data


def test_many_at_once() -> None:
    with gp.Group(limit=8) as group:
        tasks = [
            group.spawn(run, ["sh", "-c", f"cat; exit {n % 7}"], input=b"%d" % n, stdout=PIPE)
            for n in range(40)
        ]
    results = [task.result() for task in tasks]
    assert [each.stdout for each in results] == [b"%d" % n for n in range(40)]
    assert [each.returncode for each in results] == [n % 7 for n in range(40)]


def test_two_children_are_piped_together() -> None:
    reader, writer = pipe()
    with reader, writer:
        first = Popen(["echo", "hello"], stdout=writer)
        writer.close()
        second = Popen(["tr", "a-z", "A-Z"], stdin=reader, stdout=PIPE)
        reader.close()
        assert second.communicate() == (b"HELLO\n", None)
        assert first.wait() == 0


def test_a_stream_is_given_in_blocking_mode() -> None:
    show = "import os; print(os.get_blocking(0))"
    reader, writer = pipe()
    with reader, writer:
        assert run(python(show), stdin=reader, stdout=PIPE).stdout == b"True\n"
        assert not os.get_blocking(reader.fileno())


def test_wait_runs_out_of_time() -> None:
    with Popen(FOREVER) as child:
        with pytest.raises(TimeoutExpired, match=r"timed out after 0\.01 seconds"):
            child.wait(0.01)
        with pytest.raises(TimeoutExpired):
            child.wait(0)
        child.kill()
        assert child.wait(30) == -signal.SIGKILL
        assert child.wait(0) == -signal.SIGKILL
        child.kill()  # does nothing
        child.send_signal(signal.SIGTERM)


def test_communicate_goes_on_where_it_ran_out_of_time() -> None:
    script = "read line; echo got $line; read line; echo got $line; wc -c"
    with Popen(["sh", "-c", f"sleep 0.3; {script}"], stdin=PIPE, stdout=PIPE, text=True) as child:
        text = "a\nb\n" + "x" * 300_000
        with pytest.raises(TimeoutExpired):
            child.communicate(text, timeout=0.01)
        with pytest.raises(ValueError, match="Cannot send input after starting"):
            child.communicate("more")
        with gp.move_on_after(0.01):
            child.communicate()
        stdout, stderr = child.communicate()
        assert stdout.split() == ["got", "a", "got", "b", "300000"]
        assert stderr is None


def test_communicate_after_a_line_was_read_loses_nothing() -> None:
    with Popen(["printf", "one\\ntwo\\nthree"], stdout=PIPE, stderr=PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"one\n"
        assert child.communicate() == (b"two\nthree", b"")


def test_a_child_that_does_not_read_its_input() -> None:
    with Popen(["sh", "-c", "exec <&-; echo done"], stdin=PIPE, stdout=PIPE) as child:
        assert child.communicate(b"x" * 1_000_000) == (b"done\n", None)


# -- cancelling ------------------------------------------------------------------------------------


def test_a_cancelled_run_is_terminated() -> None:
    begun = time.monotonic()
    for args in (FOREVER, ["sh", "-c", "echo begun; exec sleep 1000"]):
        with gp.move_on_after(0.05) as scope:
            run(args, stdout=PIPE)
        assert scope.expired
    assert time.monotonic() - begun < 4  # SIGTERM did it


def test_a_child_may_clean_up_when_it_is_terminated() -> None:
    # It writes more than a pipe holds: that is read, though nobody wants it any more.
    script = (
        "trap 'head -c 300000 /dev/zero; echo cleaned >&2; exit 0' TERM;"
        "echo ready >&2; while :; do sleep 0.01; done"
    )
    reader, writer = pipe()
    with reader, writer:
        task = gp.spawn(run, ["sh", "-c", script], stdout=PIPE, stderr=writer, grace=50)
        assert reader.readline() == b"ready\n"
        task.cancel()
        assert reader.readline() == b"cleaned\n"
        task.join()
        assert task.cancelled


def test_a_stubborn_child_is_killed_after_the_grace() -> None:
    reader, writer = pipe()
    with reader, writer:
        task = gp.spawn(run, STUBBORN, stdout=writer, grace=0.05)
        assert reader.readline() == b"ready\n"
        begun = time.monotonic()
        task.cancel()
        task.join()
        assert 0.05 <= time.monotonic() - begun < 30


def test_stop() -> None:
    with Popen(FOREVER) as child:
        assert child.stop() == -signal.SIGTERM
        assert child.stop() == -signal.SIGTERM
    with Popen(STUBBORN, stdout=PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.stop(0.01) == -signal.SIGKILL


def test_a_cancelled_block_leaves_no_child() -> None:
    with gp.move_on_after(0.01), Popen(FOREVER, stdout=PIPE) as child:
        child.wait()
    assert child.returncode == -signal.SIGTERM
    with gp.move_on_after(0.01), Popen(FOREVER) as child:
        pass  # the wait at the block's end is what is cancelled
    assert child.returncode == -signal.SIGTERM


def test_a_cancelled_wait_leaves_the_child_alone() -> None:
    with Popen(["cat"], stdin=PIPE) as child:
        with gp.move_on_after(0.01):
            child.wait()
        assert child.poll() is None


def test_another_error_in_the_block_waits_for_the_child() -> None:
    with pytest.raises(KeyError), Popen(["cat"], stdin=PIPE) as child:
        raise KeyError
    assert child.returncode == 0


def test_ctrl_c_waits_but_shortly() -> None:
    child = Popen(["cat"], stdin=PIPE)
    with pytest.raises(KeyboardInterrupt), child:
        raise KeyboardInterrupt
    assert child.returncode == 0
    child = Popen(FOREVER)
    with pytest.raises(KeyboardInterrupt), child:
        raise KeyboardInterrupt
    assert child.poll() is None
    child.stop()


# -- threads and forks -----------------------------------------------------------------------------


def test_from_other_threads_and_hubs() -> None:
    results: list[Any] = []

    def body() -> None:
        for _ in range(10):
            results.append(run(["cat"], input=b"x", stdout=PIPE).stdout)

    threads = [threading.Thread(target=body) for _ in range(4)]
    for thread in threads:
        thread.start()
    body()
    join(threads)
    assert results == [b"x"] * 50


def join(threads: list[threading.Thread]) -> None:
    """While this hub goes on."""
    for thread in threads:
        gp.offload(thread.join)


def wait_for(child: Popen, codes: list[int]) -> None:
    codes.append(child.wait())


def test_several_hubs_wait_for_one_child() -> None:
    for _ in range(10):
        with Popen(["cat"], stdin=PIPE) as child:
            codes: list[int] = []
            threads = [threading.Thread(target=wait_for, args=(child, codes)) for _ in range(3)]
            for thread in threads:
                thread.start()
            mine = gp.spawn(child.wait)
            gp.yield_now()
            assert child.stdin is not None
            child.stdin.close()
            assert mine.result(30) == 0
            join(threads)
            assert codes == [0, 0, 0]


def test_run_in_a_fork() -> None:
    pid = os.fork()
    if not pid:
        status = 1
        try:
            status = 0 if run(["cat"], input=b"x", stdout=PIPE).stdout == b"x" else 2
        finally:
            os._exit(status)
    with Popen(["true"]) as child:
        child.wait()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_fork_does_not_know_how_its_parents_child_ended() -> None:
    with Popen(["sh", "-c", "read x; exit 3"], stdin=PIPE) as child:
        pid = os.fork()
        if not pid:
            os._exit(10 if child.poll() == 0 else 1)  # what subprocess.Popen says
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 10
    assert child.returncode == 3


def test_sigchld_ignored() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert run(["false"]).returncode == subprocess.run(["false"]).returncode == 0
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def test_a_sigchld_handler_of_the_programs_is_left_alone() -> None:
    seen: list[int] = []
    signal.signal(signal.SIGCHLD, lambda signum, frame: seen.append(signum))
    try:
        assert run(["false"]).returncode == 1
        assert seen
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


# -- failures --------------------------------------------------------------------------------------


def test_no_fd_is_left_by_a_start_that_fails() -> None:
    for _ in range(20):
        with pytest.raises(FileNotFoundError):
            Popen(["nosuchprogram"], stdin=PIPE, stdout=PIPE, stderr=PIPE)
        with pytest.raises(LookupError):
            Popen(["true"], stdin=PIPE, stdout=PIPE, stderr=PIPE, encoding="nosuchcodec")


def test_a_full_fd_table_leaves_neither_child_nor_fd() -> None:
    this_hub()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = os.open("/", os.O_RDONLY)
    os.close(top)
    started, failures = 0, []
    for spare in range(14):
        resource.setrlimit(resource.RLIMIT_NOFILE, (top + spare, limits[1]))
        try:
            child = Popen(["cat"], stdin=PIPE, stdout=PIPE, stderr=PIPE)
        except OSError as error:
            failures.append(error.errno)
        else:
            started += 1
            with child:
                pass
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert started
    assert set(failures) == {errno.EMFILE}


def test_one_that_is_dropped_says_so_and_is_waited_for_some_day() -> None:
    active: list[Popen] = subprocess._active  # type: ignore[attr-defined]
    child = Popen(["cat"], stdin=PIPE)
    stdin = child.stdin
    assert stdin is not None
    with pytest.warns(ResourceWarning, match="is still running"):
        del child
    stdin.close()
    while active:
        subprocess._cleanup()  # type: ignore[attr-defined]
    # It may be waited for where the stdlib keeps it.
    child = Popen(["cat"], stdin=PIPE)
    with pytest.warns(ResourceWarning, match="is still running"):
        del child
    [child] = active
    assert child.poll() is None
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait() == 0
    active.clear()


def test_a_thousand_leave_nothing() -> None:
    # fds are counted by conftest.py, children above; this counts what else a child may keep.
    for _ in range(20):
        run(["true"], capture_output=True)
    hub = this_hub()
    registered = sum(pollable.generation >= 0 for pollable in hub.table)
    for _ in range(200):
        run(["true"], capture_output=True)
    assert sum(pollable.generation >= 0 for pollable in hub.table) == registered


def test_the_names_of_the_stdlib_are_here_too() -> None:
    names = [name for name in gp.process.__all__ if name not in ("Popen", "run")]
    assert [getattr(gp.process, name) for name in names] == [
        getattr(subprocess, name) for name in names
    ]
    assert {"PIPE", "STDOUT", "DEVNULL", "TimeoutExpired", "CalledProcessError"} <= set(names)


def test_a_cancel_while_the_block_waits_for_its_child_ends_both() -> None:
    seen: list[Any] = []

    def body() -> None:
        with Popen(FOREVER) as child:
            seen.append(child)
        seen.append("not reached")

    task = gp.spawn(body)
    wait_all_parked()
    task.cancel()
    assert task.join(30)
    assert task.cancelled
    (child,) = seen
    assert child.returncode == -signal.SIGTERM
