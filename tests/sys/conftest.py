"""What the tests of floor 0 share: a forked child, /proc's view of an fd, and a dense signal."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

InChild = Callable[[Callable[[], None]], None]
FdInfo = Callable[[int], dict[str, str]]


@pytest.fixture
def in_child() -> InChild:
    """Run a function in a forked child, and fail when it fails there."""

    def run(check: Callable[[], None]) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                check()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    return run


@pytest.fixture
def fdinfo() -> FdInfo:
    """What the kernel itself says of an fd: an oracle that needs no call under test."""

    def read(fd: int) -> dict[str, str]:
        with open(f"/proc/self/fdinfo/{fd}") as lines:
            pairs = (line.split(":", 1) for line in lines if ":" in line)
            return {name.strip(): value.strip() for name, value in pairs}

    return read


@pytest.fixture
def no_more_fds() -> Callable[[], AbstractContextManager[None]]:
    """A block in which every new fd is refused (EMFILE)."""

    @contextlib.contextmanager
    def block() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return block


@pytest.fixture
def interrupted() -> Callable[[Callable[[], object]], AbstractContextManager[None]]:
    """A block whose thread gets SIGUSR1 every millisecond, handled by the function given.

    It is repeated because one signal could come just before the sleep it is meant to interrupt.
    """

    @contextlib.contextmanager
    def block(handler: Callable[[], object]) -> Iterator[None]:
        over = threading.Event()
        me = threading.get_ident()

        def pester() -> None:
            while not over.wait(0.001):
                signal.pthread_kill(me, signal.SIGUSR1)

        before = signal.signal(signal.SIGUSR1, lambda signum, frame: handler())
        thread = threading.Thread(target=pester)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            signal.signal(signal.SIGUSR1, before)

    return block


@pytest.fixture
def blocked() -> Iterator[Callable[[set[int]], None]]:
    """Block signals for the test; what is still pending at its end is taken, not delivered.

    They get a handler as well: a thread that an earlier test left behind doesn't block them, and
    where it took one the test must fail, not the whole run be killed.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    handlers: dict[int, Any] = {}

    def block(signums: set[int]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signums)
        for signum in signums:
            handlers[signum] = signal.signal(signum, lambda *args: None)

    yield block
    while handlers and signal.sigtimedwait(handlers, 0):
        pass
    for signum, handler in handlers.items():
        signal.signal(signum, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
