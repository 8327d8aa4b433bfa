"""greenpump: straight-line Python on raw epoll.

Write servers and clients as if every call blocked; each thread's hub runs thousands of tasks.
"""

from .debug.dump import dump, dump_on_signal
from .debug.stats import HubStats, Stats, stats
from .debug.watchdog import Hold, Watchdog, watchdog
from .errors import (
    Cancelled,
    ChannelClosed,
    Deadlock,
    DelimiterNotFound,
    GreenpumpError,
    HubError,
    IncompleteRead,
    NotPollable,
    PartialRead,
    TaskCancelled,
)
from .hub.hub import Hub
from .hub.report import excepthook
from .hub.scope import Scope, move_on_after, shield, timeout
from .hub.spawning import current, sleep, spawn, yield_now
from .hub.task import Task
from .hub.threads import ANY, hubs, run, spawn_on
from .net.connect import connect
from .net.dns import resolve
from .net.listen import listen, raise_nofile_limit, socketpair
from .net.serve import serve
from .net.socket import Socket
from .offload import offload
from .sync.cases import CLOSED, readable, receiving, sending, writable
from .sync.channel import Channel
from .sync.event import Event
from .sync.group import Group
from .sync.select import select

__all__ = [
    "ANY",
    "CLOSED",
    "Cancelled",
    "Channel",
    "ChannelClosed",
    "Deadlock",
    "DelimiterNotFound",
    "Event",
    "GreenpumpError",
    "Group",
    "Hold",
    "Hub",
    "HubError",
    "HubStats",
    "IncompleteRead",
    "NotPollable",
    "PartialRead",
    "Scope",
    "Socket",
    "Stats",
    "Task",
    "TaskCancelled",
    "Watchdog",
    "connect",
    "current",
    "dump",
    "dump_on_signal",
    "excepthook",
    "hubs",
    "listen",
    "move_on_after",
    "offload",
    "raise_nofile_limit",
    "readable",
    "receiving",
    "resolve",
    "run",
    "select",
    "sending",
    "serve",
    "shield",
    "sleep",
    "socketpair",
    "spawn",
    "spawn_on",
    "stats",
    "timeout",
    "watchdog",
    "writable",
    "yield_now",
]
