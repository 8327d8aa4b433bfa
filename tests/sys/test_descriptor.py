from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from greenpump.sys.descriptor import Descriptor
from greenpump.sys.epoll import EPOLLIN, Epoll
from greenpump.sys.eventfd import Eventfd
from greenpump.sys.pidfd import Pidfd
from greenpump.sys.signalfd import Signalfd
from greenpump.sys.timerfd import Timerfd

MAKERS: dict[str, Callable[[], Descriptor]] = {
    "epoll": Epoll,
    "eventfd": Eventfd,
    "timerfd": Timerfd,
    "signalfd": lambda: Signalfd({signal.SIGUSR1}),
    "pidfd": lambda: Pidfd(os.getpid()),
}

# Every call that reaches the kernel, for "use after close".
CALLS: dict[str, list[Callable[[object], object]]] = {
    "epoll": [
        lambda it: it.poll(0),  # type: ignore[attr-defined]
        lambda it: it.poll(5),  # type: ignore[attr-defined]
        lambda it: it.wait(0),  # type: ignore[attr-defined]
        lambda it: it.wait(),  # type: ignore[attr-defined]
        lambda it: it.add(0, EPOLLIN),  # type: ignore[attr-defined]
        lambda it: it.modify(0, EPOLLIN),  # type: ignore[attr-defined]
        lambda it: it.remove(0),  # type: ignore[attr-defined]
    ],
    "eventfd": [
        lambda it: it.write(),  # type: ignore[attr-defined]
        lambda it: it.write(2),  # type: ignore[attr-defined]
        lambda it: it.read(),  # type: ignore[attr-defined]
    ],
    "timerfd": [
        lambda it: it.arm(1),  # type: ignore[attr-defined]
        lambda it: it.arm_after(1),  # type: ignore[attr-defined]
        lambda it: it.disarm(),  # type: ignore[attr-defined]
        lambda it: it.gettime(),  # type: ignore[attr-defined]
        lambda it: it.read(),  # type: ignore[attr-defined]
    ],
    "signalfd": [
        lambda it: it.read(),  # type: ignore[attr-defined]
        lambda it: it.set(()),  # type: ignore[attr-defined]
    ],
    "pidfd": [
        lambda it: it.send_signal(0),  # type: ignore[attr-defined]
        lambda it: it.try_wait(),  # type: ignore[attr-defined]
    ],
}

each_noun = pytest.mark.parametrize("noun", MAKERS)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@each_noun
def test_an_open_one(noun: str) -> None:
    it = MAKERS[noun]()
    assert it.fileno() == it.fd
    assert it.fd >= 0
    assert not it.closed
    assert repr(it) == f"<{type(it).__name__} fd={it.fd}>"
    assert not os.get_inheritable(it.fd)
    # The epoll fd has no read to block: the kernel doesn't take O_NONBLOCK for it.
    assert os.get_blocking(it.fd) == (noun == "epoll")
    it.close()


@each_noun
def test_a_closed_one(noun: str) -> None:
    it = MAKERS[noun]()
    fd = it.fd
    it.close()
    assert not is_open(fd)
    assert it.closed
    assert it.fd == -1
    assert repr(it) == f"<{type(it).__name__} closed>"
    message = f"I/O operation on closed {noun}"
    with pytest.raises(ValueError, match=message):
        it.fileno()
    with pytest.raises(ValueError, match=message):
        it.__enter__()
    for call in CALLS[noun]:
        with pytest.raises(ValueError, match=message):
            call(it)
    assert not is_open(fd)  # no call has opened anything


@each_noun
def test_closing_twice_leaves_the_reused_number_alone(noun: str) -> None:
    it = MAKERS[noun]()
    fd = it.fd
    it.close()
    other = os.open("/dev/null", os.O_RDONLY)
    assert other == fd
    it.close()
    del it
    gc.collect()
    assert is_open(other)
    os.close(other)


@each_noun
def test_with_statement_closes(noun: str) -> None:
    with MAKERS[noun]() as it:
        fd = it.fd
        assert is_open(fd)
    assert it.closed
    assert not is_open(fd)


@each_noun
def test_dropped_unclosed_it_warns_and_closes(noun: str) -> None:
    it = MAKERS[noun]()
    fd = it.fd
    owners = [it]
    del it
    with pytest.warns(ResourceWarning, match=f"unclosed <.* fd={fd}>"):
        owners.clear()
    assert not is_open(fd)


def test_it_closes_even_when_the_warning_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(args.exc_type))
    it = Eventfd()
    fd = it.fd
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del it
        gc.collect()
    assert unraisable == [ResourceWarning]
    assert not is_open(fd)


@each_noun
def test_out_of_fds(noun: str, no_more_fds: Callable[[], AbstractContextManager[None]]) -> None:
    with no_more_fds(), pytest.raises(OSError, match=": Too many open files") as caught:
        MAKERS[noun]()
    assert caught.value.errno == errno.EMFILE
    gc.collect()  # the half-made object has nothing to close and says nothing


def test_closed_behind_its_back() -> None:
    it = Eventfd()
    os.close(it.fd)
    with pytest.raises(OSError, match=rf"eventfd_read: .* \(eventfd fd {it.fd}\)") as caught:
        it.read()
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match="Bad file descriptor"):
        it.close()
    assert it.closed
    it.close()


@each_noun
def test_many_come_and_go_without_a_leak(noun: str) -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(100):
        MAKERS[noun]().close()
    assert os.listdir("/proc/self/fd") == before


def test_exec_closes_them() -> None:
    owners = [make() for make in MAKERS.values()]
    inherited = os.dup(0)
    os.set_inheritable(inherited, True)
    fds = [str(owner.fd) for owner in owners]
    script = 'for fd; do [ -e /proc/self/fd/$fd ] && echo "$fd"; done; exit 0'
    shell = subprocess.run(
        ["/bin/sh", "-c", script, "sh", str(inherited), *fds],
        close_fds=False,
        check=True,
        capture_output=True,
        text=True,
    )
    assert shell.stdout.split() == [str(inherited)]
    os.close(inherited)
    for owner in owners:
        owner.close()


@each_noun
def test_closing_in_a_forked_child_leaves_the_parents_open(
    noun: str, in_child: Callable[[Callable[[], None]], None]
) -> None:
    with MAKERS[noun]() as it:
        fd = it.fd

        def child() -> None:
            assert is_open(fd)
            it.close()
            assert not is_open(fd)

        in_child(child)
        assert is_open(fd)


def test_threads_that_close_at_once_close_once() -> None:
    # A second close would hit the fd of somebody else, or raise EBADF.
    owners = [Eventfd() for _ in range(200)]
    barrier = threading.Barrier(4)
    errors: list[BaseException] = []

    def close_all() -> None:
        barrier.wait()
        try:
            for owner in owners:
                owner.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=close_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert all(owner.closed for owner in owners)


def test_closing_what_an_epoll_watches_is_safe_for_the_epoll() -> None:
    with Epoll() as epoll:
        timer = Timerfd()
        epoll.add(timer.fd, EPOLLIN)
        timer.arm(time.monotonic_ns())
        timer.close()  # the last reference to the timer: the kernel forgets it
        assert epoll.poll(0) == []
