"""Processes: ``run`` and ``Popen`` of the subprocess module, parking where those block.

A child's end is read off its pidfd: no SIGCHLD handler, which belongs to the program, and no thread
per child. Its pipes are Streams.

Invariants
----------
1. ``returncode`` is set once, under ``_reaping``, by whoever takes the child's status from the
   kernel; then the pidfd is closed, which wakes all who wait. Who is told that the child has ended
   acquires that lock and looks for itself.
2. Signals go through the pidfd: it can't come to mean another process.
3. ``communicate`` leaves what it has read in the streams and what it has not written in
   ``_input_left`` until it returns. So one that ran out of time or was cancelled can be repeated.
4. A ``run`` or ``with`` block that is cancelled leaves no child: SIGTERM, SIGKILL after a grace.

A child is started in the calling thread. Measured with 300 MB in use, beside tasks that compute: a
start takes 0.9 ms (vfork and exec), in a thread of ``offload`` 14 ms, and the hub is held up no
less, since ``vfork`` keeps the GIL; without the GIL it was 1.2 against 43 ms. A thread of a pool
has a signal mask and an affinity of its own, and its end sets off the child's PR_SET_PDEATHSIG.
What is slow is ``preexec_fn``, which has fork take vfork's place.

Rejected: SIGCHLD; ``waitpid`` in a thread for each child; asyncio's child watchers, for both.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from subprocess import (
    DEVNULL,
    PIPE,
    STDOUT,
    CalledProcessError,
    CompletedProcess,
    SubprocessError,
    TimeoutExpired,
)
from threading import Lock
from types import TracebackType
from typing import Any, Final

from greenlet import GreenletExit

from .errors import Cancelled
from .files.modes import reopen
from .files.stream import Stream
from .files.text import TextStream, check_text
from .hub.local import this_hub
from .hub.pollable import READ, Pollable
from .hub.scope import move_on_after, shield
from .hub.spawning import spawn
from .hub.timers import FAR
from .sys.pidfd import Pidfd

# The stdlib's own, so that ``subprocess`` need not be imported beside this.
__all__ = [
    "DEVNULL",
    "PIPE",
    "STDOUT",
    "CalledProcessError",
    "CompletedProcess",
    "Popen",
    "SubprocessError",
    "TimeoutExpired",
    "run",
]

GRACE: Final = 5.0
"""Seconds between SIGTERM and SIGKILL for the child of a block that was cancelled."""
SIGINT_GRACE: Final = 0.25
"""Seconds that a block which Ctrl-C ends waits for its child, which got the Ctrl-C as well."""


class Popen(subprocess.Popen[Any]):
    """A child process: ``subprocess.Popen`` whose calls park.

    Takes the same arguments, has the same methods and raises the same errors. ``stdin``, ``stdout``
    and ``stderr`` are Streams or TextStreams: what is written to stdin has left at once, whatever
    ``bufsize`` says, and reading is buffered unless that is 0. Starting parks never, but holds the
    thread until the child has its program, for about a millisecond.

    Usable from any task and hub. Leaving its ``with`` block closes the pipes and waits for the
    child; if the block was cancelled, it is ended first (``stop``).

    A Stream may be given as the child's stdin, stdout or stderr: the child gets it in blocking
    mode. Every other fd is passed on as it is, and a greenpump Socket is non-blocking.

    Source: subprocess.Popen.
    """

    def __init__(
        self,
        args: Any,
        bufsize: int = -1,
        executable: Any = None,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        *more: Any,
        pipesize: int = -1,
        **kwargs: Any,
    ) -> None:
        self.returncode: Any = None
        self._reaping = Lock()
        self._pidfd: Pidfd | None = None
        self._input_left: memoryview | None = None
        text = _text_arguments(more, kwargs)
        if text is not None:
            check_text(*text, None)
        with ExitStack() as childs, ExitStack() as undo:

            def ends(given: Any, number: int) -> tuple[int | None, Any]:
                """What the child gets as fd ``number``, and our end of the pipe, if it is one."""
                if isinstance(given, (Stream, TextStream)):
                    fd = reopen(given.fileno(), blocking=True)
                    childs.callback(os.close, fd)
                    return None, fd
                if given != PIPE:
                    return None, given
                reader, writer = os.pipe()
                ours, theirs = (writer, reader) if number == 0 else (reader, writer)
                childs.callback(os.close, theirs)
                undo.callback(os.close, ours)
                if pipesize > 0:
                    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, pipesize)
                os.set_blocking(ours, False)
                return ours, theirs

            our_stdin, stdin = ends(stdin, 0)
            our_stdout, stdout = ends(stdout, 1)
            our_stderr, stderr = ends(stderr, 2)
            super().__init__(
                args, bufsize, executable, stdin, stdout, stderr, *more, pipesize=pipesize, **kwargs
            )
            self._watch()
            undo.pop_all()
        self.stdin = _file(our_stdin, "wb", bufsize, text)
        self.stdout = _file(our_stdout, "rb", bufsize, text)
        self.stderr = _file(our_stderr, "rb", bufsize, text)

    def _watch(self) -> None:
        """Open the child's pidfd."""
        try:
            self._pidfd = Pidfd(self.pid)
        except ProcessLookupError:
            self.poll()  # SIGCHLD is ignored, and so the kernel has reaped it
            return
        except BaseException:
            os.kill(self.pid, signal.SIGKILL)
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            raise
        self._ended = Pollable(self._pidfd.fileno())

    # -- its end ---------------------------------------------------------------------------------

    def poll(self) -> int | None:
        """``returncode`` if the child has ended, else None. Doesn't park."""
        with self._reaping:
            if self.returncode is None:
                self._reap()
        code: int | None = self.returncode
        return code

    def _reap(self) -> None:
        """Take the child's status if it has ended. ``_reaping`` is held."""
        pidfd = self._pidfd
        try:
            if pidfd is not None:
                result = pidfd.try_wait()
                if result is None:
                    return
                exited = result.si_code == os.CLD_EXITED
                self.returncode = result.si_status if exited else -result.si_status
            else:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if not pid:
                    return
                self.returncode = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            # SIGCHLD is ignored, or this process is a fork of the one that started it. How the
            # child ended can't be known; 0 is what the stdlib says.
            self.returncode = 0
        if pidfd is not None:
            self._ended.close()
            pidfd.close()

    def wait(self, timeout: float | None = None) -> int:
        """Park until the child has ended; its ``returncode``.

        ``timeout`` is in seconds. Raises TimeoutExpired when it passes first, Cancelled. As in the
        stdlib, a child that waits for its pipes to be read never ends: see ``communicate``.
        """
        deadline = _deadline(timeout)
        if self._pidfd is None and self.poll() is None:
            self._watch()  # __del__ has run, and the stdlib holds it to take its status some day
        while (code := self.poll()) is None:
            try:
                woken = self._ended.wait(READ, deadline)
            except OSError:
                if self.poll() is None:
                    raise
                continue  # another thread has taken its status this moment
            if not woken and self.poll() is None:
                assert timeout is not None
                raise TimeoutExpired(self.args, timeout)
        return code

    def send_signal(self, sig: int) -> None:
        """Send ``sig`` to the child; nothing if it has ended. Doesn't park. Raises OSError."""
        if self.poll() is not None:
            return
        try:
            if self._pidfd is not None:
                self._pidfd.send_signal(sig)
        except (ProcessLookupError, ValueError):
            pass  # it has ended and was reaped this moment

    def stop(self, grace: float = GRACE) -> int:
        """End the child: SIGTERM, and SIGKILL if it lives ``grace`` seconds later.

        Parks until it has ended, in a cancelled scope as well; what it writes meanwhile is dropped.
        Returns ``returncode``. Its own children are not its business, nor this call's: start it
        with ``start_new_session=True`` and use ``os.killpg`` for those.
        """
        drains = []
        with shield():
            try:
                if self.poll() is None:
                    self.terminate()
                    outputs = [each for each in map(_binary, (self.stdout, self.stderr)) if each]
                    drains = [spawn(_drop, each) for each in outputs if not each.closed]
                    with move_on_after(grace):
                        self.wait()
            finally:
                for task in drains:
                    task.cancel("the child has ended")
                if self.poll() is None:
                    self.kill()
            for task in drains:
                task.join()
            self.wait()
        code: int = self.returncode
        return code

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if isinstance(error, (Cancelled, GreenletExit)):
                self.stop()
        finally:
            for stream in (self.stdout, self.stderr, self.stdin):
                if stream is not None:
                    stream.close()
        if isinstance(error, KeyboardInterrupt):
            with move_on_after(SIGINT_GRACE):
                self.wait()
            return
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise

    def __del__(self, *args: Any, **kwargs: Any) -> None:
        super().__del__(*args, **kwargs)
        pidfd = getattr(self, "_pidfd", None)
        if pidfd is not None and not pidfd.closed:
            self._pidfd = None
            self._ended.close()
            pidfd.close()

    # -- talking to it ---------------------------------------------------------------------------

    def communicate(self, input: Any = None, timeout: float | None = None) -> tuple[Any, Any]:
        """Write ``input``, read stdout and stderr to their ends, and wait for the child; parks.

        Returns what was read; None for what is no pipe. ``timeout`` is in seconds: TimeoutExpired
        has as ``output`` and ``stderr`` the bytes that came so far, and a further call goes on
        where this one stopped, as it does after a cancel. Source: subprocess.Popen.communicate.
        """
        if self._input_left is None:
            self._input_left = memoryview(self._encoded(input)).cast("B")
        elif input:
            raise ValueError("Cannot send input after starting communication")
        outputs = [_binary(self.stdout), _binary(self.stderr)]
        jobs = [each.read_ahead for each in outputs if each is not None and not each.closed]
        if self.stdin is not None and not self.stdin.closed:
            jobs.append(self._feed)
        ended = False
        with move_on_after(None if timeout is None else max(0, timeout)):
            _together(jobs)
            self.wait()
            ended = True
        if not ended:
            assert timeout is not None
            seen = [None if each is None else each.buffered() or None for each in outputs]
            raise TimeoutExpired(self.args, timeout, *seen)
        return self._all_of(self.stdout), self._all_of(self.stderr)

    def _encoded(self, input: Any) -> Any:
        stdin: Any = self.stdin
        if isinstance(stdin, TextStream) and input is not None:
            return input.encode(stdin.encoding, stdin.errors)
        return b"" if input is None else input

    def _feed(self) -> None:
        """Write the input and close stdin."""
        stdin = _binary(self.stdin)
        assert stdin is not None
        assert self._input_left is not None
        try:
            while self._input_left:
                self._input_left = self._input_left[stdin.write_some(self._input_left) :]
        except BrokenPipeError:
            self._input_left = memoryview(b"")  # the child doesn't want the rest
        stdin.close()

    def _all_of(self, stream: Any) -> Any:
        if stream is None:
            return None
        if stream.closed:
            return "" if isinstance(stream, TextStream) else b""
        output = stream.read()
        stream.close()
        return output


def run(
    *popenargs: Any,
    input: Any = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    grace: float = GRACE,
    **kwargs: Any,
) -> CompletedProcess[Any]:
    """Run a program, park until it has ended, and return a ``subprocess.CompletedProcess``.

    Arguments and errors are those of ``subprocess.run``. ``timeout`` is in seconds; when it passes
    the child is killed and TimeoutExpired raised, as in the stdlib. When the task or a scope around
    is cancelled, or any other error is raised here, the child is ended first: by SIGTERM, and
    ``grace`` seconds later by SIGKILL.

    Source: subprocess.run; trio.run_process for the cancel.
    """
    if input is not None:
        if kwargs.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        kwargs["stdin"] = PIPE
    if capture_output:
        if kwargs.get("stdout") is not None or kwargs.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        kwargs["stdout"] = kwargs["stderr"] = PIPE
    with Popen(*popenargs, **kwargs) as process:
        try:
            stdout, stderr = process.communicate(input, timeout)
        except TimeoutExpired:
            process.kill()
            process.wait()
            raise
        except BaseException:
            process.stop(grace)
            raise
    code = process.returncode
    if check and code:
        raise CalledProcessError(code, process.args, stdout, stderr)
    return CompletedProcess(process.args, code, stdout, stderr)


# -- small parts -----------------------------------------------------------------------------------


def _deadline(timeout: float | None) -> int:
    return FAR if timeout is None else this_hub().timers.after(max(0, timeout))


def _text_arguments(
    more: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[str | None, str | None] | None:
    """Encoding and errors, None in binary mode. ``universal_newlines`` may come by position."""
    encoding, errors = kwargs.get("encoding"), kwargs.get("errors")
    universal = more[5] if len(more) > 5 else kwargs.get("universal_newlines")
    return (encoding, errors) if encoding or errors or kwargs.get("text") or universal else None


def _file(
    fd: int | None, mode: str, bufsize: int, text: tuple[str | None, str | None] | None
) -> Any:
    """Our end of a pipe to the child."""
    if fd is None:
        return None
    stream = Stream(fd, mode, buffered=bufsize != 0 or text is not None)
    return stream if text is None else TextStream(stream, *text)


def _binary(stream: Any) -> Stream | None:
    return stream.buffer if isinstance(stream, TextStream) else stream


def _drop(stream: Stream) -> None:
    """Read to the end, and forget it."""
    try:
        while stream.read1():
            pass
    except (OSError, ValueError):
        pass  # somebody closed it meanwhile


def _together(jobs: list[Callable[[], None]]) -> None:
    """Do all of ``jobs`` at once."""
    tasks = [spawn(job) for job in jobs[1:]]
    try:
        for job in jobs[:1]:
            job()
        for task in tasks:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        with shield():
            for task in tasks:
                task.join()
