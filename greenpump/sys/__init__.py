"""Floor 0: the kernel's own objects, called through ctypes, without any policy.

It imports nothing of the rest of greenpump and can be used alone; see docs/sys.md.
"""

from greenpump.sys.epoll import (
    EPOLLERR,
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLHUP,
    EPOLLIN,
    EPOLLMSG,
    EPOLLONESHOT,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDBAND,
    EPOLLRDHUP,
    EPOLLRDNORM,
    EPOLLWAKEUP,
    EPOLLWRBAND,
    EPOLLWRNORM,
    Epoll,
)
from greenpump.sys.eventfd import Eventfd
from greenpump.sys.pidfd import Pidfd, pidfd_open, pidfd_send_signal
from greenpump.sys.signalfd import Signalfd, SignalInfo
from greenpump.sys.timerfd import Timerfd

__all__ = [
    "EPOLLERR",
    "EPOLLET",
    "EPOLLEXCLUSIVE",
    "EPOLLHUP",
    "EPOLLIN",
    "EPOLLMSG",
    "EPOLLONESHOT",
    "EPOLLOUT",
    "EPOLLPRI",
    "EPOLLRDBAND",
    "EPOLLRDHUP",
    "EPOLLRDNORM",
    "EPOLLWAKEUP",
    "EPOLLWRBAND",
    "EPOLLWRNORM",
    "Epoll",
    "Eventfd",
    "Pidfd",
    "SignalInfo",
    "Signalfd",
    "Timerfd",
    "pidfd_open",
    "pidfd_send_signal",
]
