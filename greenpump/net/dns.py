"""Names: the system's own resolver, in threads, asked once and remembered for a moment.

The resolver of the C library is the only one that knows what this machine is configured to know
(/etc/hosts, nsswitch.conf, mDNS, split DNS of a VPN), and it only blocks. So it runs in threads, of
a pool of its own: slow files can't starve names, nor the other way round.

Invariants
----------
1. A numeric address with a numeric port never leaves the calling thread, and never parks.
2. At most one look-up of a key is under way in the process. Tasks of every hub that ask meanwhile
   join it. A look-up that everybody has left is taken back if no thread has begun it; one that has
   begun goes on, and its answer is remembered.
3. ``_flights``, ``_cache`` and ``waiters`` change under ``_lock``. Whoever takes a task out of
   ``waiters`` under it has claimed the task. What stands in ``_flights`` the pool has.
4. The cache holds at most ``MAX_CACHED`` answers; the oldest goes first.

How long. getaddrinfo tells no TTL, so an answer may be kept only for as long as nobody minds: 10
seconds spare a busy client all but one look-up of many, and a fail-over by DNS (TTLs of 30 seconds
and more) shows no later than it does elsewhere. "No such name" is kept for one second, to stop a
stampede; a resolver that doesn't answer (EAI_AGAIN) isn't kept at all.

Rejected: an own resolver over UDP (it would know none of the above; gevent keeps three and their
differences); no cache, as Go (it has no pool of threads to protect); a TTL of minutes (Java's
sorrow).
"""

from __future__ import annotations

import copy
import os
import socket as _stdlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from ..hub.local import hub_or_none, this_hub
from ..hub.task import Task
from ..hub.wait import wake
from ..offload import Pool

__all__ = [
    "flush_cache",
    "getaddrinfo",
    "gethostbyaddr",
    "gethostbyname",
    "gethostbyname_ex",
    "getnameinfo",
    "resolve",
]

KEEP: Final = 10.0
"""Seconds for which an answer is remembered."""
KEEP_NO_SUCH_NAME: Final = 1.0
MAX_CACHED: Final = 1024

Address = tuple[int, int, int, str, tuple[Any, ...]]
Key = tuple[Any, ...]
Answer = list[Address] | BaseException

# What blocks. Bound here: monkey may replace the names in ``socket`` by those of this module.
_getaddrinfo: Callable[..., Any] = _stdlib.getaddrinfo
_getnameinfo = _stdlib.getnameinfo
_gethostbyname = _stdlib.gethostbyname
_gethostbyname_ex = _stdlib.gethostbyname_ex
_gethostbyaddr = _stdlib.gethostbyaddr
# What doesn't: the same with AI_NUMERICHOST.
_parse: Callable[..., Any] = _stdlib.getaddrinfo

_NO_SUCH_NAME = (_stdlib.EAI_NONAME, _stdlib.EAI_NODATA)
_NUMERIC = _stdlib.NI_NUMERICHOST | _stdlib.NI_NUMERICSERV

_pool = Pool("dns")
_lock = threading.RLock()  # re-entrant: a fork is made holding it, and begins look-ups anew
_flights: dict[Key, _Lookup] = {}
_cache: OrderedDict[Key, tuple[int, Answer]] = OrderedDict()


def resolve(
    host: str | bytes | None,
    port: int | str | bytes | None,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[Address]:
    """The addresses of ``host``, as a list of ``(family, type, proto, canonname, sockaddr)``.

    As ``socket.getaddrinfo``, in the order in which they should be tried (RFC 6724). A numeric host
    answers at once; for a name the task parks while a thread asks the system's resolver, or joins
    the look-up of the same name that is already under way. Answers are remembered for 10 seconds,
    "no such name" for one (``flush_cache`` forgets them).

    Raises socket.gaierror that names the host (or the service), UnicodeError when it is no possible
    name, OverflowError for a port beyond 65535 (which the stdlib would truncate), Cancelled. A
    scope's deadline limits it; the abandoned look-up may go on in its thread. Source: man 3
    getaddrinfo.
    """
    number = _port_number(port)
    if number is not None:
        try:
            found: list[Address] = _parse(
                host, port, family, type, proto, flags | _stdlib.AI_NUMERICHOST
            )
            return found
        except (_stdlib.gaierror, UnicodeError) as error:
            final = host is None or flags & _stdlib.AI_NUMERICHOST
            if final or not (
                isinstance(error, _stdlib.gaierror) and error.errno == _stdlib.EAI_NONAME
            ):
                raise _naming(host, port, error) from None
    # The port has no influence on what the resolver is asked, unless it is a service's name.
    service = port if number is None or port is None else 0
    answer = _look_up((host, service, int(family), int(type), int(proto), int(flags)))
    if isinstance(answer, BaseException):
        raise _naming(host, port, answer) from None
    if number is None:
        return list(answer)
    return [(*entry[:4], (entry[4][0], number, *entry[4][2:])) for entry in answer]


getaddrinfo = resolve
"""``socket.getaddrinfo``, cooperative."""


def gethostbyname(hostname: str) -> str:
    """``socket.gethostbyname``, cooperative: the first IPv4 address of ``hostname``, as text."""
    if hostname in ("", "<broadcast>"):
        return _gethostbyname(hostname)
    address: str = resolve(hostname, 0, _stdlib.AF_INET, _stdlib.SOCK_STREAM)[0][4][0]
    return address


def gethostbyname_ex(hostname: str) -> tuple[str, list[str], list[str]]:
    """``socket.gethostbyname_ex``, cooperative. Parks; neither coalesced nor remembered."""
    return _pool.call(_gethostbyname_ex, hostname)


def gethostbyaddr(ip_address: str) -> tuple[str, list[str], list[str]]:
    """``socket.gethostbyaddr``, cooperative. Parks; neither coalesced nor remembered."""
    return _pool.call(_gethostbyaddr, ip_address)


def getnameinfo(sockaddr: tuple[Any, ...], flags: int) -> tuple[str, str]:
    """``socket.getnameinfo``, cooperative. Parks, unless ``flags`` ask for numbers alone."""
    if flags & _NUMERIC == _NUMERIC:
        return _getnameinfo(sockaddr, flags)
    return _pool.call(_getnameinfo, sockaddr, flags)


def flush_cache() -> None:
    """Forget every remembered answer: the network has changed. Doesn't park."""
    with _lock:
        _cache.clear()


class _Lookup:
    """One question to the resolver, and the wait of all who have asked it."""

    __slots__ = ("answer", "clock", "key", "waiters")
    answer: Answer

    def __init__(self, key: Key, clock: Callable[[], int]) -> None:
        self.key = key
        self.clock = clock
        self.waiters: dict[Task[Any], None] | None = {}

    def run(self) -> None:
        try:
            self.answer = _getaddrinfo(*self.key)
        except BaseException as error:
            self.answer = error.with_traceback(None)

    def ended(self) -> None:
        """Remember the answer and wake who waits for it."""
        with _lock:
            waiters, self.waiters = self.waiters, None
            del _flights[self.key]
            keep = _how_long(self.answer)
            if keep:
                _cache[self.key] = (self.clock() + int(keep * 1e9), self.answer)
                _cache.move_to_end(self.key)
                if len(_cache) > MAX_CACHED:
                    _cache.popitem(last=False)
            for task in waiters or ():
                wake(task)  # under the lock: a fork finds the task unclaimed or in the inbox

    def lost(self) -> None:
        """The fork took the thread: in the child, ask again for those who are there."""
        with _lock:
            if self.waiters is None:
                return
            hub = hub_or_none()
            self.waiters = {task: None for task in self.waiters if task.hub is hub}
            if self.waiters:
                _pool.start(self)
            else:
                del _flights[self.key]

    def abandon(self, task: Task[Any]) -> bool:
        with _lock:
            if self.waiters is None:
                return False
            del self.waiters[task]
            if not self.waiters and _pool.drop(self):
                del _flights[self.key]
            return True

    def reason(self, task: Task[Any]) -> str:
        return f"look-up of {self.key[0]!r}"


def _look_up(key: Key) -> Answer:
    """The answer to ``key``: remembered, or of a look-up that is begun or joined."""
    hub = this_hub()
    task = hub.prepare()
    with _lock:
        kept = _cache.get(key)
        if kept is not None and hub.timers.clock() < kept[0]:
            return kept[1]
        lookup = _flights.get(key)
        if lookup is None:
            lookup = _Lookup(key, hub.timers.clock)
            _pool.start(lookup)
            _flights[key] = lookup
        assert lookup.waiters is not None
        lookup.waiters[task] = None
    hub.externals += 1
    try:
        hub.wait(task, lookup)
    finally:
        hub.externals -= 1
    return lookup.answer


def _how_long(answer: Answer) -> float:
    """Seconds for which an answer is to be remembered."""
    if isinstance(answer, list):
        return KEEP
    if isinstance(answer, _stdlib.gaierror) and answer.errno in _NO_SUCH_NAME:
        return KEEP_NO_SUCH_NAME
    return 0.0


def _port_number(port: int | str | bytes | None) -> int | None:
    """The port as a number; None when it is a service's name."""
    if port is None:
        return 0
    if isinstance(port, (str, bytes)):
        if not (port.isascii() and port.isdigit()):
            return None
        port = int(port)
    if not 0 <= port <= 0xFFFF:
        raise OverflowError(f"port must be 0-65535, not {port}")
    return port


def _naming(
    host: str | bytes | None, port: int | str | bytes | None, error: BaseException
) -> BaseException:
    """A copy of ``error`` that says which name it is about: several tasks may raise it at once."""
    if isinstance(error, _stdlib.gaierror):
        name = port if error.errno == _stdlib.EAI_SERVICE else host
        return type(error)(error.errno, f"{error.strerror}: {name!r}")
    notes = getattr(error, "__notes__", ())
    error = copy.copy(error)
    error.__notes__ = [*notes]  # the copy has the same list
    error.add_note(f"while {host!r} was looked up")
    return error


# Other threads' bookkeeping is complete at the fork; what they looked up is begun anew (lost).
os.register_at_fork(
    before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
)
