"""greenpump: straight-line Python on raw epoll."""

from .errors import (
    Cancelled,
    ChannelClosed,
    Deadlock,
    GreenpumpError,
    HubError,
    NotPollable,
    TaskCancelled,
)
from .hub.report import excepthook
from .hub.scope import move_on_after, shield, timeout
from .hub.hub import Hub
from .hub.spawning import current, sleep, spawn, yield_now
from .hub.task import Task
