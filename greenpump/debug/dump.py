"""dump: every task of every hub, with what it waits for and where.

The counterpart of what Go prints on SIGQUIT. It only reads (``look.py``), and never parks or posts,
so it works in a program that hangs, from any thread and from a signal handler. Tasks with the same
stack are listed above one copy of it: ten thousand connections that read in the same place are one
stack.

Rejected: printing locals (their repr is the user's code, and it runs in the middle of theirs).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from os import write as _write
from select import POLLOUT, poll
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, overload

from ..hub.deadlock import wakes_nobody
from ..hub.local import hubs
from ..hub.stacks import Stack, format_stack, heading, stack_of
from .look import detached_of, stacks, tasks_of, threads

if TYPE_CHECKING:
    from ..hub.hub import Hub
    from ..hub.task import Task


PATIENCE_MS = 1000
"""How long a dump waits for whoever reads a full stderr."""


class Writable(Protocol):
    """What ``dump`` writes to."""

    def write(self, text: str, /) -> object:
        """Take the text."""


@overload
def dump(file: None = None) -> str: ...
@overload
def dump(file: Writable) -> None: ...
def dump(file: Writable | None = None) -> str | None:
    """Describe all tasks of all hubs, and the threads that have no hub.

    Each task with its name, what it waits for and for how long, where it was spawned, and its
    stack; tasks with the same stack share one. Idle detached connections are counted. Written to
    ``file`` if there is one, else returned.

    Doesn't park, except where ``file.write`` does. Callable from any task, thread and signal
    handler. Other threads go on meanwhile, so a task may be shown a moment before or after a step.
    Source: Go's SIGQUIT trace, faulthandler.dump_traceback.
    """
    text = _compose(sys._getframe(1))
    if file is None:
        return text
    file.write(text)
    return None


def dump_on_signal(signum: int = signal.SIGQUIT) -> Any:
    """Have ``signum`` (Ctrl-\\ sends SIGQUIT) dump all tasks to stderr; the program goes on.

    Returns the handler that was installed before, as ``signal.signal`` does, which also takes this
    one away again. It runs as soon as the main thread executes Python: at once while that sleeps in
    its hub, in a system call or in a lock; not while it is stuck in C code, where only
    ``faulthandler.register`` gets through. Doesn't park. Raises ValueError outside the main thread,
    OSError for a signal that can't be caught. Source: Go's SIGQUIT trace, faulthandler.register.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ValueError(
            "dump_on_signal works only in the main thread, the one that runs signal handlers; "
            "here dump(sys.stderr) prints the same"
        )
    return signal.signal(signum, _on_signal)


@wakes_nobody
def _on_signal(signum: int, frame: FrameType | None) -> None:
    try:
        text = _compose(frame or sys._getframe())
    except Exception as error:
        # It may have struck in hub code, where an exception of ours would do harm.
        text = f"greenpump: the dump failed: {error!r}\n"
    _write_stderr(text.encode(errors="backslashreplace"))


def _write_stderr(data: bytes) -> None:
    """Write past sys.stderr's buffer: the handler may have interrupted a write to that."""
    try:
        fd = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        fd = 2
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[_write(fd, rest) :]
        except BlockingIOError:
            patience = poll()
            patience.register(fd, POLLOUT)
            if not patience.poll(PATIENCE_MS):
                return  # nobody reads; a diagnosis must not hang the program
        except OSError:
            return


def _compose(caller: FrameType) -> str:
    """The whole text; ``caller`` is the frame that the calling thread is shown in."""
    live = [hub for hub in hubs.copy() if not hub.closed]
    parts = [f"greenpump dump of process {os.getpid()}, {len(live)} hubs\n"]
    parts += [_describe_hub(hub, caller) for hub in live]
    plain = threads()
    plain[threading.get_ident()] = stack_of(caller)
    for hub in live:
        plain.pop(hub.thread.ident or 0, None)
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    entries = [(f"thread {names.get(id, id)}: no hub\n", stack) for id, stack in plain.items()]
    return "\n".join([*parts, *_grouped(entries)])


def _describe_hub(hub: Hub, caller: FrameType) -> str:
    asleep = ", asleep in the kernel" if hub.sleeping else ""
    main, *others = tasks_of(hub)
    tasks = [main, *sorted(others, key=lambda task: task.since)]  # who waits longest comes first
    entries = [(_heading(task), task) for task in tasks]
    found = stacks(hub, tasks, caller)
    head = f"hub of {hub.thread.name}: {len(tasks)} tasks{asleep}\n"
    for name, count in detached_of(hub).most_common():
        head += f"  {count} detached connections wait for {name}\n"
    return "\n".join([head, *_grouped((text, found.get(task, [])) for text, task in entries)])


def _heading(task: Task[Any]) -> str:
    try:
        return heading(task)
    except Exception as error:
        # Another thread woke it between two looks at its wait.
        return f"task {task.name}: in the middle of a step ({error!r})\n"


def _grouped(entries: Iterable[tuple[str, Stack]]) -> Iterator[str]:
    """The headings, those with the same stack together and followed by it."""
    groups: dict[tuple[tuple[str, int, str], ...], list[str]] = {}
    for head, stack in entries:
        groups.setdefault(tuple(stack), []).append(head)
    for stack_, heads in groups.items():
        yield "".join(heads) + format_stack(list(stack_))
