"""Every exception of greenpump.

Where the standard library already has the right exception (``TimeoutError``, ``OSError`` and its
subclasses, ``ValueError``) that one is raised; only what it has no name for is defined here.
"""

from __future__ import annotations


class GreenpumpError(Exception):
    """Base of greenpump's own errors."""


class HubError(GreenpumpError):
    """Code of the hub itself failed, or was used where it can't work.

    Raised in the main task of the hub that broke, with the first error as ``__cause__``: a hub that
    met an error it does not know never prints it and goes on.
    """


class Deadlock(GreenpumpError):
    """All tasks are asleep: nothing runnable, no timer, no fd and no thread could wake any of them.

    Raised in the hub's main task. The message holds every task with its wait reason and its stack.
    """


class ChannelClosed(GreenpumpError):
    """Send on a closed channel, second close, or receive on a closed and drained channel."""


class NotPollable(GreenpumpError):
    """The fd is a regular file or a directory: epoll refuses it; use offload."""


class Cancelled(BaseException):
    """Raised by every park inside a cancelled scope, until that scope is left.

    A ``BaseException``, so that ``except Exception`` does not swallow it. ``scope`` is the scope
    whose end will absorb it.
    """

    def __init__(self, message: str = "cancelled", scope: object | None = None) -> None:
        super().__init__(message)
        self.scope = scope


class TaskCancelled(Cancelled, Exception):
    """``result()`` was asked of a task that had been cancelled.

    It is a ``Cancelled`` for those who ask what became of the task, and an ``Exception`` because
    the *asking* task is not itself cancelled: no scope absorbs it.
    """


class PartialRead(GreenpumpError):
    """A read of a certain amount ended early; ``partial`` holds the bytes that it consumed."""

    def __init__(self, message: str, partial: bytes) -> None:
        super().__init__(message, partial)
        self.partial = partial

    def __str__(self) -> str:
        return str(self.args[0])


class IncompleteRead(PartialRead, EOFError):
    """The peer ended the stream before all had come that was asked for.

    ``partial`` is empty when it ended in good order, before the first byte.
    """


class DelimiterNotFound(PartialRead, ValueError):
    """The limit was met before the delimiter."""
