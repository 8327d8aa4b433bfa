from __future__ import annotations

import ctypes
import errno
import os
import signal
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenpump.sys import signalfd
from greenpump.sys.epoll import EPOLLIN, Epoll
from greenpump.sys.signalfd import Signalfd, SignalInfo

USR1, USR2, CHLD = signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD
SI_USER, SI_QUEUE, CLD_EXITED = 0, -1, 1

Block = Callable[[set[int]], None]
FdInfo = Callable[[int], dict[str, str]]

u16, u32, u64, s32 = ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int32


class Siginfo(ctypes.Structure):
    """struct signalfd_siginfo, from <linux/signalfd.h>."""

    _fields_ = (
        ("signo", u32),
        ("errno", s32),
        ("code", s32),
        ("pid", u32),
        ("uid", u32),
        ("fd", s32),
        ("tid", u32),
        ("band", u32),
        ("overrun", u32),
        ("trapno", u32),
        ("status", s32),
        ("value", s32),
        ("value_pointer", u64),
        ("utime", u64),
        ("stime", u64),
        ("addr", u64),
        ("addr_lsb", u16),
        ("pad2", u16),
        ("syscall", s32),
        ("call_addr", u64),
        ("arch", u32),
        ("pad", ctypes.c_uint8 * 28),
    )


@given(st.binary(min_size=128, max_size=128))
def test_the_decoded_record_is_the_c_struct(raw: bytes) -> None:
    assert ctypes.sizeof(Siginfo) == 128
    struct = Siginfo.from_buffer_copy(raw)
    [decoded] = map(SignalInfo._make, signalfd._siginfo.iter_unpack(raw))
    assert decoded._asdict() == {name: getattr(struct, name) for name in SignalInfo._fields}


@given(st.sets(st.sampled_from(sorted(signal.valid_signals()))))
def test_the_encoded_set_is_the_libcs(signums: set[int]) -> None:
    libc = ctypes.CDLL(None)
    theirs = ctypes.create_string_buffer(128)
    libc.sigemptyset(theirs)
    for signum in signums:
        assert libc.sigaddset(theirs, int(signum)) == 0
    assert signalfd._pack_sigset(signums) == theirs.raw


def test_the_kernel_has_the_set(fdinfo: FdInfo) -> None:
    with Signalfd({USR1, signal.SIGRTMAX}) as it:
        expected = 1 << USR1 - 1 | 1 << signal.SIGRTMAX - 1
        assert int(fdinfo(it.fd)["sigmask"], 16) == expected
        it.set([USR2])
        assert int(fdinfo(it.fd)["sigmask"], 16) == 1 << USR2 - 1
        it.set(())
        assert int(fdinfo(it.fd)["sigmask"], 16) == 0


@pytest.mark.parametrize("signum", [-1, 0, 65, 1000])
def test_no_such_signal(signum: int) -> None:
    with pytest.raises(ValueError, match=f"no such signal: {signum}"):
        Signalfd([signum])
    with Signalfd([]) as it, pytest.raises(ValueError, match="no such signal"):
        it.set([signum])


def test_none_pending() -> None:
    with Signalfd({USR1}) as it:
        assert it.read() == []


def test_a_sent_signal_makes_it_readable(blocked: Block) -> None:
    blocked({USR1, USR2})
    with Signalfd({USR1}) as it, Epoll() as epoll:
        epoll.add(it.fd, EPOLLIN)
        os.kill(os.getpid(), USR2)
        assert epoll.poll(0) == []
        os.kill(os.getpid(), USR1)
        assert epoll.wait(0) == [(EPOLLIN, it.fd)]
        [info] = it.read()
        assert (info.signo, info.code, info.pid, info.uid) == (
            USR1,
            SI_USER,
            os.getpid(),
            os.getuid(),
        )
        assert epoll.poll(0) == []
        assert signal.sigpending() == {USR2}


def test_a_kill_reads_as_sigtimedwait_has_it(blocked: Block) -> None:
    blocked({USR1})
    with Signalfd({USR1}) as it:
        os.kill(os.getpid(), USR1)
        theirs = signal.sigtimedwait({USR1}, 0)
        os.kill(os.getpid(), USR1)
        [info] = it.read()
    assert theirs is not None
    assert (info.signo, info.code, info.errno) == (
        theirs.si_signo,
        theirs.si_code,
        theirs.si_errno,
    )
    assert (info.pid, info.uid) == (theirs.si_pid, theirs.si_uid)


def test_a_childs_end_reads_as_sigtimedwait_has_it(blocked: Block) -> None:
    blocked({CHLD})

    def child_that_exits() -> int:
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return pid

    with Signalfd({CHLD}) as it:
        pid = child_that_exits()
        theirs = signal.sigtimedwait({CHLD}, 0)
        os.waitpid(pid, 0)
        assert theirs is not None
        assert theirs.si_pid == pid
        pid = child_that_exits()
        [info] = it.read()
        os.waitpid(pid, 0)
    assert info.pid == pid
    assert (info.signo, info.code, info.status) == (CHLD, CLD_EXITED, 7)
    assert (theirs.si_signo, theirs.si_code, theirs.si_status) == (CHLD, CLD_EXITED, 7)
    assert info.uid == theirs.si_uid


def test_queued_values_come_in_order(blocked: Block) -> None:
    # More than one read takes at once; real-time signals queue, so none is merged.
    signum = int(signal.SIGRTMIN) + 1
    blocked({signum})
    libc = ctypes.CDLL(None, use_errno=True)
    count = 2 * signalfd._BATCH + 1
    with Signalfd({signum}) as it:
        for value in range(count):
            assert libc.sigqueue(os.getpid(), signum, ctypes.c_void_p(value)) == 0
        infos = it.read()
        assert it.read() == []
    assert [info.value for info in infos] == list(range(count))
    assert [info.value_pointer for info in infos] == list(range(count))
    assert {info.code for info in infos} == {SI_QUEUE}


def test_what_is_not_blocked_goes_to_its_handler() -> None:
    got: list[int] = []
    before = signal.signal(USR1, lambda signum, frame: got.append(signum))
    with Signalfd({USR1}) as it:
        signal.raise_signal(USR1)
        assert it.read() == []
    signal.signal(USR1, before)
    assert got == [USR1]


def test_a_signal_to_a_thread_is_read_in_that_thread(blocked: Block) -> None:
    blocked({USR1})
    read: list[list[int]] = []
    with Signalfd({USR1}) as it:

        def other() -> None:
            read.append([info.signo for info in it.read()])
            signal.pthread_kill(threading.get_ident(), USR1)
            read.append([info.signo for info in it.read()])

        signal.pthread_kill(threading.get_ident(), USR1)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert [info.signo for info in it.read()] == [USR1]
    assert read == [[], [USR1]]


def test_after_fork_the_child_reads_its_own(
    blocked: Block, in_child: Callable[[Callable[[], None]], None]
) -> None:
    blocked({USR1})
    with Signalfd({USR1}) as it:
        os.kill(os.getpid(), USR1)

        def child() -> None:
            assert it.read() == []
            os.kill(os.getpid(), USR1)
            assert [info.pid for info in it.read()] == [os.getpid()]

        in_child(child)
        assert [info.pid for info in it.read()] == [os.getpid()]


def test_set_on_something_else() -> None:
    it = Signalfd({USR1})
    os.close(it.fd)
    with pytest.raises(OSError, match=rf"signalfd: .* \(signalfd fd {it.fd}\)") as caught:
        it.set({USR2})
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match="read: Bad file descriptor"):
        it.read()
    with pytest.raises(OSError, match="Bad file descriptor"):
        it.close()
