"""signals: real signals, sent by kill and by threads, to hubs that sleep and hubs that work."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub.local import this_hub
from greenpump.process import run
from greenpump.signals import SignalChannel, signals

ROOT = Path(__file__).parents[1]
HUP, USR1, USR2, TERM = signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM


@pytest.fixture(autouse=True)
def handlers_are_given_back() -> Iterator[None]:
    before = handlers()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    assert handlers() == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


def handlers() -> dict[int, Any]:
    # SIGINT's is that of the hub, which a test may have made, SIGALRM's that of pytest-timeout.
    mine = signal.valid_signals() - {signal.SIGINT, signal.SIGALRM}
    return {signum: signal.getsignal(signum) for signum in mine}


def kill(signum: int) -> None:
    os.kill(os.getpid(), signum)


def in_thread(fn: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=fn)
    thread.start()
    return thread


def program(source: str, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # What a shell starts in the background would inherit a SIGINT that is ignored.
        ["env", "--default-signal=INT", sys.executable, "-c", source, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        **more,
    )


# -- receiving -------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [TERM, HUP, USR1, signal.SIGCHLD, signal.SIGINT])
def test_a_signal_is_received_as_it_was_named(signum: signal.Signals) -> None:
    with signals(signum) as arriving:
        kill(signum)
        assert arriving.recv() is signum


def test_a_sleeping_hub_is_woken() -> None:
    hub = this_hub()
    with signals(TERM) as arriving:
        task = gp.spawn(arriving.recv)
        sender = in_thread(lambda: kill_once(lambda: hub.sleeping, TERM))
        assert task.result(timeout=30) is TERM
        sender.join()


def kill_once(condition: Callable[[], bool], signum: int) -> None:
    while not condition():
        pass
    kill(signum)


def test_a_signal_that_the_main_thread_blocks_wakes_it_nevertheless() -> None:
    # The kernel hands it to the other thread, and the main thread sleeps in epoll_wait.
    hub = this_hub()
    with signals(USR1) as arriving:
        sender = in_thread(lambda: kill_once(lambda: hub.sleeping, USR1))
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [USR1])
        try:
            assert arriving.recv() is USR1
        finally:
            sender.join()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_a_thread_that_was_there_before_may_get_the_signal() -> None:
    go = threading.Event()
    me: list[int] = []

    def body() -> None:
        me.append(threading.get_ident())
        started.set()
        go.wait(30)

    started = threading.Event()
    thread = in_thread(body)
    started.wait(30)
    with signals(USR1) as arriving:
        signal.pthread_kill(me[0], USR1)
        assert arriving.recv() is USR1
    go.set()
    thread.join()


def test_offload_threads_and_other_hubs_do_not_swallow_it() -> None:
    with signals(USR1) as arriving:
        for _ in range(20):
            gp.offload(signal.pthread_kill, threading.get_ident(), USR1)
            assert arriving.recv() is USR1
            gp.offload(signal.raise_signal, USR1)
            assert arriving.recv() is USR1


def test_sigqueue() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sigqueue.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    unnamed = signal.SIGRTMIN + 3
    with signals(unnamed, USR1) as arriving:
        assert libc.sigqueue(os.getpid(), unnamed, 7) == 0
        assert arriving.recv() == unnamed
        assert f"signal {int(unnamed)}, SIGUSR1" in repr(arriving)


def test_sigchld_of_a_child_that_run_waits_for() -> None:
    with signals(signal.SIGCHLD) as arriving:
        assert run(["true"]).returncode == 0
        assert arriving.recv() is signal.SIGCHLD


def test_iteration_ends_with_the_block() -> None:
    seen = gp.Channel[int](3)
    with signals(TERM, HUP) as arriving:

        def pass_on() -> None:
            for signum in arriving:
                seen.send(signum)
            seen.close()

        gp.spawn(pass_on)
        for signum in (TERM, HUP, TERM):
            kill(signum)
            assert seen.recv() is signum
    with pytest.raises(gp.ChannelClosed):
        seen.recv()


def test_a_select_takes_it() -> None:
    other = gp.Channel[int]()
    with signals(TERM) as arriving:
        kill(TERM)
        assert gp.select(gp.receiving(other), gp.receiving(arriving)) == (1, TERM)


def test_every_listener_gets_it() -> None:
    with signals(TERM) as one, signals(TERM, HUP) as two:
        kill(TERM)
        assert (one.recv(), two.recv()) == (TERM, TERM)
        kill(HUP)
        assert two.recv() is HUP
        assert one.try_recv() is None
    # The one that stays is not affected by the other's end.
    with signals(TERM) as stays:
        signals(TERM).close()
        kill(TERM)
        assert stays.recv() is TERM


def test_what_came_before_it_was_received_is_in_line_once() -> None:
    with signals(USR1, USR2) as arriving:
        for signum in (USR1, USR2, USR1, USR1, USR2):
            kill(signum)
            gp.yield_now()
        wait_until_empty_inbox()
        assert [arriving.try_recv() for _ in range(3)] == [USR1, USR2, None]
        kill(USR1)
        assert arriving.recv() is USR1


def wait_until_empty_inbox() -> None:
    while this_hub().inbox:
        this_hub().poll_now()
        gp.yield_now()


def test_what_came_before_the_close_is_received_after_it() -> None:
    with signals(TERM) as arriving:
        kill(TERM)
        wait_until_empty_inbox()
    assert list(arriving) == [TERM]
    with pytest.raises(gp.ChannelClosed):
        arriving.close()


def test_a_cancelled_recv_loses_nothing() -> None:
    with signals(TERM) as arriving:
        with gp.move_on_after() as scope:
            scope.cancel()
            arriving.recv()
        kill(TERM)
        assert arriving.recv() is TERM


def test_a_storm_is_survived() -> None:
    with signals(USR1) as arriving:
        stop = threading.Event()

        def storm() -> None:
            while not stop.is_set():
                kill(USR1)

        sender = in_thread(storm)
        try:
            for _ in range(500):
                assert arriving.recv() is USR1
        finally:
            stop.set()
            sender.join()


def test_a_storm_on_a_hub_that_computes_takes_no_memory() -> None:
    with signals(USR1) as arriving:
        for _ in range(1000):
            kill(USR1)
        assert len(this_hub().inbox) <= 2  # whoever else posted
        assert arriving.recv() is USR1
        kill(USR1)
        assert arriving.recv() is USR1


# -- other threads ---------------------------------------------------------------------------------


def test_another_hub_listens() -> None:
    this_hub()
    got: list[int] = []
    listening, done = gp.Event(), gp.Event()

    def body() -> None:
        with signals(TERM, HUP) as arriving:
            listening.set()
            got.append(arriving.recv())
            got.append(arriving.recv())
        done.set()

    thread = in_thread(body)
    listening.wait()
    for count, signum in enumerate((HUP, TERM), 1):
        kill(signum)
        while len(got) < count:
            gp.sleep(0.001)
    done.wait()
    thread.join()
    assert got == [HUP, TERM]
    wait_until_empty_inbox()
    assert signal.getsignal(TERM) is signal.SIG_DFL


def test_all_hubs_of_a_run_listen() -> None:
    source = """
import greenpump as gp, os, signal
from greenpump.signals import signals
def listen(ready):
    with signals(signal.SIGTERM) as arriving:
        ready.send(None)
        return arriving.recv()
def main():
    ready = gp.Channel(3)
    tasks = [gp.spawn_on(hub, listen, ready) for hub in gp.hubs()]
    for _ in tasks:
        ready.recv()
    os.kill(os.getpid(), signal.SIGTERM)
    print([task.result(10).name for task in tasks])
gp.run(main, hubs=3)
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""
    done = program(source)
    assert (done.stdout, done.returncode) == (f"{['SIGTERM'] * 3}\nTrue\n", 0), done.stderr


def test_another_thread_needs_the_main_threads_hub() -> None:
    source = """
import threading
from greenpump.signals import signals
def body():
    try:
        signals(15)
    except RuntimeError as error:
        print(error)
thread = threading.Thread(target=body)
thread.start()
thread.join()
"""
    assert "the main thread has no hub" in program(source).stdout


def test_a_cancelled_start_in_another_thread_leaves_nothing() -> None:
    this_hub()
    errors: list[BaseException] = []

    def body() -> None:
        try:
            with gp.timeout(0.01):
                signals(TERM)
        except BaseException as error:
            errors.append(error)

    thread = in_thread(body)
    thread.join()  # the main thread's hub is out of order meanwhile
    assert [type(error) for error in errors] == [TimeoutError]
    wait_until_empty_inbox()
    assert signal.getsignal(TERM) is signal.SIG_DFL


# -- handlers --------------------------------------------------------------------------------------


def test_a_programs_handler_is_back_afterwards() -> None:
    seen: list[int] = []

    def handler(signum: int, frame: object) -> None:
        seen.append(signum)

    signal.signal(USR1, handler)
    try:
        with signals(USR1) as arriving:
            kill(USR1)
            assert arriving.recv() is USR1
            assert seen == []
        kill(USR1)
        assert seen == [USR1]
    finally:
        signal.signal(USR1, signal.SIG_DFL)


def test_a_handler_that_was_set_meanwhile_stays() -> None:
    def handler(signum: int, frame: object) -> None: ...

    with signals(USR1):
        signal.signal(USR1, handler)
    assert signal.getsignal(USR1) is handler
    signal.signal(USR1, signal.SIG_DFL)


def test_sigint_raises_unless_asked_for() -> None:
    source = """
import greenpump as gp, os, signal
from greenpump.signals import signals
def interrupt():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        gp.sleep(30)
    except KeyboardInterrupt:
        print("interrupted")
with signals(signal.SIGTERM):
    interrupt()
with signals(signal.SIGINT) as arriving:
    os.kill(os.getpid(), signal.SIGINT)
    print(arriving.recv().name)
interrupt()
"""
    done = program(source)
    assert done.stdout == "interrupted\nSIGINT\ninterrupted\n", done.stderr


def test_sigint_raises_again_when_the_hub_has_changed_meanwhile() -> None:
    source = """
import greenpump as gp, os, signal
from greenpump.signals import signals
with signals(signal.SIGINT) as arriving:
    gp.run(lambda: None)
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
arriving = signals(signal.SIGINT)
old = gp.hubs()[0]
gp.run(lambda: None)
gp.sleep(0)
arriving.close()
try:
    os.kill(os.getpid(), signal.SIGINT)
    gp.sleep(30)
except KeyboardInterrupt:
    print("interrupted", gp.hubs()[0] is not old)
"""
    done = program(source)
    assert done.stdout == "True\ninterrupted True\n", done.stderr


def test_a_signal_without_a_listener_left_has_its_default_action() -> None:
    source = """
import greenpump as gp, os, signal
from greenpump.signals import signals
forgotten = signals(signal.SIGTERM)
gp.run(lambda: None)
os.kill(os.getpid(), signal.SIGTERM)
gp.sleep(30)
"""
    assert program(source).returncode == -TERM


@pytest.mark.parametrize(
    ("signum", "words"),
    [
        (0, "no such signal: 0"),
        (65, "no such signal: 65"),
        (signal.SIGKILL, "SIGKILL can't be caught"),
        (signal.SIGSTOP, "SIGSTOP can't be caught"),
        (signal.SIGSEGV, "SIGSEGV says that code has failed"),
    ],
)
def test_what_it_does_not_listen_to(signum: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        signals(TERM, signum)
    assert signal.getsignal(TERM) is signal.SIG_DFL


def test_nothing_and_no_number() -> None:
    with pytest.raises(ValueError, match="needs the signals"):
        signals()
    with pytest.raises(TypeError):
        signals("SIGTERM")  # type: ignore[type-var]


def test_a_handler_of_c_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda signum: None)
    with pytest.raises(RuntimeError, match="SIGUSR1 was set by C code"):
        signals(USR1)


# -- children --------------------------------------------------------------------------------------

SHOW = ["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"]


def popen() -> str:
    with os.popen(" ".join(f"'{each}'" for each in SHOW)) as output:
        return output.read()


def test_children_inherit_nothing() -> None:
    plain = subprocess.run(SHOW, capture_output=True, check=True).stdout
    by_shell = popen()
    with signals(TERM, HUP, USR1, signal.SIGCHLD):
        assert subprocess.run(SHOW, capture_output=True, check=True).stdout == plain
        assert gp.offload(subprocess.check_output, SHOW) == plain
        assert run(SHOW, capture_output=True).stdout == plain
        assert popen() == by_shell
        with gp.move_on_after(0.01) as scope:  # SIGTERM ends it, long before SIGKILL would
            run(["sleep", "60"], grace=50)
        assert scope.expired


def test_a_forked_child_listens_on() -> None:
    with signals(USR1) as arriving:
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                kill(USR1)
                status = 0 if arriving.recv() is USR1 else 2
            finally:
                os._exit(status)
        os.close(reader)
        os.close(writer)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert arriving.try_recv() is None
        kill(USR1)
        assert arriving.recv() is USR1


def test_a_channel_of_another_threads_hub_does_not_listen_in_the_child() -> None:
    this_hub()
    listening, done = gp.Event(), gp.Event()

    def body() -> None:
        with signals(USR1):
            listening.set()
            done.wait()

    thread = in_thread(body)
    listening.wait()
    pid = os.fork()
    if not pid:
        try:
            kill(USR1)
            gp.sleep(30)
        finally:
            os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    done.set()
    thread.join()
    wait_until_empty_inbox()
    assert status == -USR1


def test_no_deadlock_is_seen_while_a_signal_may_come() -> None:
    hub = this_hub()
    with signals(USR1) as arriving:
        sender = in_thread(lambda: kill_once(lambda: hub.idle_ms < 0, USR1))
        assert arriving.recv() is USR1
        sender.join()


def test_many_are_opened_and_closed() -> None:
    for _ in range(200):
        with signals(TERM, HUP) as arriving:
            assert isinstance(arriving, SignalChannel)
