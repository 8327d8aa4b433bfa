"""greenpump: straight-line Python on raw epoll.

Write servers and clients as if every call blocked; each thread's hub runs thousands of tasks.
"""

from .errors import (
    Cancelled,
    ChannelClosed,
    Deadlock,
    GreenpumpError,
    HubError,
    NotPollable,
    TaskCancelled,
)
from .hub.hub import Hub
from .hub.report import excepthook
from .hub.scope import Scope, move_on_after, shield, timeout
from .hub.spawning import current, sleep, spawn, yield_now
from .hub.task import Task
from .hub.threads import ANY, hubs, run, spawn_on
from .net.listen import listen, socketpair
from .net.serve import serve
from .net.socket import Socket
from .sync.event import Event
from .sync.group import Group

__all__ = [
    "ANY",
    "Cancelled",
    "ChannelClosed",
    "Deadlock",
    "Event",
    "GreenpumpError",
    "Group",
    "Hub",
    "HubError",
    "NotPollable",
    "Scope",
    "Socket",
    "Task",
    "TaskCancelled",
    "current",
    "excepthook",
    "hubs",
    "listen",
    "move_on_after",
    "run",
    "serve",
    "shield",
    "sleep",
    "socketpair",
    "spawn",
    "spawn_on",
    "timeout",
    "yield_now",
]
