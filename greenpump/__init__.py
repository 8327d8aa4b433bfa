"""greenpump: straight-line Python on raw epoll.

Write servers and clients as if every call blocked; each thread's hub runs thousands of tasks.
"""

from . import process
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
from .files.offloaded import File
from .files.opening import from_fd, pipe
from .files.opening import open as open  # as ``map`` below
from .files.stream import Stream
from .files.text import TextStream
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
from .signals import SignalChannel, signals
from .sync.barrier import Barrier
from .sync.cases import CLOSED, readable, receiving, sending, writable
from .sync.channel import Channel
from .sync.condition import Condition
from .sync.context import after_cancel, deadline, remaining
from .sync.event import Event
from .sync.group import Group
from .sync.limiter import RateLimiter, Reservation
from .sync.mutex import Mutex
from .sync.once import Once, once_value
from .sync.pool import Results, imap, imap_unordered
from .sync.pool import map as map  # not among the names of a star: nobody's builtin is hidden
from .sync.queue import Empty, Full, LifoQueue, PriorityQueue, Queue, ShutDown
from .sync.rwmutex import RWMutex
from .sync.select import select
from .sync.semaphore import Semaphore
from .sync.singleflight import Singleflight
from .sync.starting import TASK_STATUS_IGNORED, TaskStatus
from .sync.timer import Ticker, Timer, after, spawn_later
from .sync.waitgroup import WaitGroup

__all__ = [
    "ANY",
    "CLOSED",
    "TASK_STATUS_IGNORED",
    "Barrier",
    "Cancelled",
    "Channel",
    "ChannelClosed",
    "Condition",
    "Deadlock",
    "DelimiterNotFound",
    "Empty",
    "Event",
    "File",
    "Full",
    "GreenpumpError",
    "Group",
    "Hold",
    "Hub",
    "HubError",
    "HubStats",
    "IncompleteRead",
    "LifoQueue",
    "Mutex",
    "NotPollable",
    "Once",
    "PartialRead",
    "PriorityQueue",
    "Queue",
    "RWMutex",
    "RateLimiter",
    "Reservation",
    "Results",
    "Scope",
    "Semaphore",
    "ShutDown",
    "SignalChannel",
    "Singleflight",
    "Socket",
    "Stats",
    "Stream",
    "Task",
    "TaskCancelled",
    "TaskStatus",
    "TextStream",
    "Ticker",
    "Timer",
    "WaitGroup",
    "Watchdog",
    "after",
    "after_cancel",
    "connect",
    "current",
    "deadline",
    "dump",
    "dump_on_signal",
    "excepthook",
    "from_fd",
    "hubs",
    "imap",
    "imap_unordered",
    "listen",
    "move_on_after",
    "offload",
    "once_value",
    "pipe",
    "process",
    "raise_nofile_limit",
    "readable",
    "receiving",
    "remaining",
    "resolve",
    "run",
    "select",
    "sending",
    "serve",
    "shield",
    "signals",
    "sleep",
    "socketpair",
    "spawn",
    "spawn_later",
    "spawn_on",
    "stats",
    "timeout",
    "watchdog",
    "writable",
    "yield_now",
]
