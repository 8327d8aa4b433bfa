"""Errors that nobody waits for: ``greenpump.excepthook``.

The hook is looked up on the package at each use, so that a program sets its own with
``greenpump.excepthook = mine``, as with ``sys.excepthook``.
"""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING, Any

from .interrupt import calls_user_code

if TYPE_CHECKING:
    from .task import Task


def excepthook(task: Task[Any], error: BaseException, /) -> None:
    """Print an unhandled error of ``task`` to stderr: its name, spawn site and traceback.

    Called when a task fails while nobody waits for its result. Replace it with
    ``greenpump.excepthook = mine``; it runs on the failed task's worker.
    Source: threading.excepthook.
    """
    stream = sys.stderr
    if stream is None:
        return
    lines = [f"Unhandled error in task {task.name}, spawned at {task.spawned_at()}\n"]
    lines += traceback.format_exception(error)
    stream.write("".join(lines))
    stream.flush()


@calls_user_code
def report(task: Task[Any], error: BaseException) -> None:
    """Hand an unhandled error to the program's hook; a hook that fails falls back to ours."""
    hook = getattr(sys.modules.get("greenpump"), "excepthook", excepthook)
    try:
        hook(task, error)
    except Exception as hook_error:
        excepthook(task, error)
        if hook is not excepthook:
            excepthook(task, hook_error)
