"""serve: accept connections and run a handler for each, until told to stop.

Invariants
----------
1. A connection is in ``_live`` from its accept until its handler has ended; it is closed then,
   however the handler ended, unless the handler detached it. One that is being stopped before its
   handler ran is closed by the server.
2. Accepting outlives every failure that is not the listener's own: a full fd table, no memory, a
   client that left, a handler that raised.
3. When ``serve`` returns or raises, its listeners are closed and its handlers have ended.

Cores. With the GIL use processes, without it hubs; "auto" picks. Each has a listener of its own
(SO_REUSEPORT): the kernel spreads the connections, and nobody is woken for another's. Where that
can't be (a unix socket, a listener that was made without it) they share one; a connection may then
wake several, of which one gets it.

Rejected: closing a spare fd to accept and drop a connection when fds run out (the clients in the
backlog lose nothing by waiting, and the spare is gone when two threads try it); one limit counted
across hubs and processes (a lock per connection, for a number that nobody needs exactly).
"""

from __future__ import annotations

import errno
import logging
import os
import socket as _stdlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal

from ..hub import threads
from ..hub.interrupt import calls_user_code
from ..hub.local import FREE_THREADED, fleet, this_hub
from ..hub.scope import Scope, move_on_after, shield
from ..hub.spawning import spawn, yield_now
from ..hub.task import Task
from ..hub.timers import FAR
from ..hub.wait import wake
from .listen import listen
from .naming import show
from .prefork import supervise
from .socket import Socket

if TYPE_CHECKING:
    import ssl

__all__ = ["serve"]

Handler = Callable[[Any, Any], object]  # of a Socket, or of an SSLSocket with ``tls``
Count = int | Literal["auto"]

_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
# Errors of the one connection that was to be accepted (man 2 accept, "Error handling").
_PASSING = frozenset(
    (
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.EPERM,
        errno.ENETDOWN,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EOPNOTSUPP,
        errno.ETIMEDOUT,
        errno.ECONNRESET,
    )
)
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 1.0
"""Seconds to leave the backlog alone when fds or memory have run out, unless a connection ends."""
EPISODE: Final = 10.0
"""Seconds without exhaustion after which the next one is worth a line in the log again."""

log = logging.getLogger("greenpump.serve")


def serve(
    handler: Handler,
    addr: Any,
    *,
    hubs: Count = 1,
    processes: Count = 1,
    limit: int | None = None,
    tls: ssl.SSLContext | None = None,
    handshake_timeout: float = 10.0,
    grace: float = 10.0,
) -> None:
    """Listen on ``addr`` and run ``handler(conn, peer)`` in a task for each connection. Parks.

    ``addr`` is what ``listen`` takes, or a listening socket (``listen((host, 0))`` tells its port).
    TCP_NODELAY is set unless a listener was given without. The connection is closed when its
    handler ends; after ``conn.detach_until_readable(fn)`` it isn't: it is ``fn``'s then, and
    neither ``limit`` nor ``grace`` counts it. An error of a handler goes to
    ``greenpump.excepthook`` and harms nothing else.

    ``limit`` is how many connections may be open at once; further ones wait in the backlog. Hubs
    and processes get equal shares of it.

    ``tls`` is a context with the server's certificate: ``conn`` is an ``SSLSocket`` then, its
    handshake done. That is done in the connection's own task, in ``handshake_timeout`` seconds, so
    a slow or hostile client delays nobody (but it counts for ``limit`` meanwhile); one that fails
    is closed without calling the handler, and the log (``greenpump.serve``) says so at level INFO.

    It ends when its task is cancelled, by Ctrl-C in the main task, or when the listener is closed:
    no more connections are accepted, and handlers have ``grace`` seconds to end before they are
    cancelled and waited for. A second Ctrl-C cancels them at once.

    ``hubs``: how many threads serve, those of ``run(hubs=n)``; called outside ``run``, ``serve``
    calls it, so all tasks end with the server. ``processes``: how many are forked, each with so
    many hubs. The caller then supervises: a worker that dies is replaced, after a pause that grows
    when they die young. SIGTERM stops them all in order (in a main thread where nobody handles it),
    after which ``serve`` returns; who isn't gone two seconds after ``grace`` is killed. Workers end
    when the supervisor dies. "auto" means one for each CPU this process may use: for ``hubs`` on a
    free-threaded Python, for ``processes`` on one with the GIL, else 1.

    When fds or memory run out, accepting pauses until a connection ends, for a second at most; the
    log (``greenpump.serve``) says so.

    Raises OSError as ``listen``, TypeError, ValueError, RuntimeError (more hubs than ``run`` has),
    Cancelled.
    """
    if not callable(handler):
        raise TypeError(f"serve needs handler(conn, peer), not {handler!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 or None: {limit}")
    for seconds in (grace, handshake_timeout):
        this_hub().timers.after(seconds)  # raises for what is no time
    if tls is not None:
        # Imported here: OpenSSL is 20 ms and 5 MB that most programs need not have.
        import ssl

        from .tls.served import Secured

        if not isinstance(tls, ssl.SSLContext):
            raise TypeError(f"serve needs an ssl.SSLContext for tls, not {tls!r}")
        handler = Secured(handler, tls, handshake_timeout)
    n_hubs = _count("hubs", hubs, auto=FREE_THREADED)
    n_processes = _count("processes", processes, auto=not FREE_THREADED)
    path: _Path | None = None
    if isinstance(addr, _stdlib.socket):
        listener = addr if isinstance(addr, Socket) else Socket.from_stdlib(addr)
        if not listener.getsockopt(_stdlib.SOL_SOCKET, _stdlib.SO_ACCEPTCONN):
            raise ValueError(f"serve needs a socket that listens, not {addr!r}")
        listener.settimeout(None)
    elif isinstance(addr, tuple):
        listener = listen(addr, reuse_port=n_hubs * n_processes > 1)
    else:
        listener = listen(addr)
        path = _Path(addr)
    try:
        if n_processes == 1:
            _serve_on_hubs(handler, listener, n_hubs, limit, grace)
            return
        listeners = _multiply(listener, n_processes, limit)
        limits = _shares(limit, len(listeners))

        def work(number: int) -> None:
            for other in listeners:
                if other is not listeners[number]:
                    other.close()
            _serve_on_hubs(handler, listeners[number], n_hubs, limits[number], grace)

        def close_all() -> None:
            for each in listeners:
                each.close()

        try:
            supervise(work, len(listeners), grace, close_all)
        finally:
            close_all()
    finally:
        listener.close()
        if path is not None:
            path.remove()


def _count(name: str, wanted: Count, *, auto: bool) -> int:
    if wanted == "auto":
        return len(os.sched_getaffinity(0)) if auto else 1
    if not isinstance(wanted, int):
        raise TypeError(f'{name} must be a number or "auto", not {wanted!r}')
    if wanted < 1:
        raise ValueError(f"{name} must be at least 1: {wanted}")
    return wanted


def _shares(limit: int | None, n: int) -> list[int | None]:
    """``limit`` in n parts, as equal as can be."""
    if limit is None:
        return [None] * n
    return [limit // n + (number < limit % n) for number in range(n)]


def _multiply(listener: Socket, n: int, limit: int | None) -> list[Socket]:
    """``listener`` and others for the same address: n of them, but no more than ``limit``."""
    n = n if limit is None else min(n, limit)
    made = [listener]
    try:
        while len(made) < n:
            made.append(_another(listener))
    except BaseException:
        for each in made[1:]:
            each.close()
        raise
    return made


def _another(listener: Socket) -> Socket:
    """One more listener for the address: of its own where the kernel lets it, else the same."""
    family = listener.family
    if family not in (_stdlib.AF_INET, _stdlib.AF_INET6) or not listener.getsockopt(
        _stdlib.SOL_SOCKET, _stdlib.SO_REUSEPORT
    ):
        return listener.dup()
    tcp = _stdlib.IPPROTO_TCP
    return listen(
        listener.getsockname(),
        reuse_port=True,
        ipv6_only=family == _stdlib.AF_INET6
        and bool(listener.getsockopt(_stdlib.IPPROTO_IPV6, _stdlib.IPV6_V6ONLY)),
        nodelay=listener.nodelay,
        fastopen=listener.getsockopt(tcp, _stdlib.TCP_FASTOPEN),
        defer_accept=listener.getsockopt(tcp, _stdlib.TCP_DEFER_ACCEPT),
    )


class _Path:
    """The socket file that serve made: it goes with the server, if it is still the same."""

    def __init__(self, addr: Any) -> None:
        self.path = os.fspath(addr)
        self.mine = self._identity()

    def _identity(self) -> tuple[int, int] | None:
        if self.path[:1] in ("\0", b"\0"):
            return None
        try:
            found = os.lstat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def remove(self) -> None:
        if self.mine is not None and self._identity() == self.mine:
            os.unlink(self.path)


def _serve_on_hubs(
    handler: Handler, listener: Socket, n: int, limit: int | None, grace: float
) -> None:
    """Serve in this process, on n hubs."""
    if n == 1:
        Server(handler, listener, limit, grace).run()
        return
    available = threads.hubs()
    if len(available) < n:
        if fleet:
            raise RuntimeError(
                f"serve(hubs={n}) needs run(main, hubs={n}); this run has {len(available)}"
            )
        threads.run(_serve_on_hubs, handler, listener, n, limit, grace, hubs=n)
        return
    here = this_hub()
    others = [hub for hub in available if hub is not here][: n - 1]
    listeners = _multiply(listener, n, limit)
    servers = [
        Server(handler, each, share, grace)
        for each, share in zip(listeners, _shares(limit, len(listeners)), strict=True)
    ]
    errors: list[BaseException] = []
    tasks: list[Task[None]] = []
    with move_on_after() as together:
        try:
            for hub, server in zip(others, servers[1:], strict=False):
                tasks.append(threads.spawn_on(hub, _run_with, server, together, errors))
            servers[0].accept_all()
        finally:
            for task in tasks:
                task.cancel("the server stops")
            try:
                servers[0].end()
            finally:
                with shield():
                    for task in tasks:
                        task.join()
                for each in listeners[1:]:
                    each.close()
    if errors:
        raise errors[0]


def _run_with(server: Server, together: Scope, errors: list[BaseException]) -> None:
    """A server on another hub: when one ends, all do."""
    try:
        server.run()
    except Exception as error:
        errors.append(error)
    finally:
        together.cancel("a server of another hub has ended")


class Server:
    """One listener, served on one hub. All of it belongs to that hub's thread."""

    def __init__(self, handler: Handler, listener: Socket, limit: int | None, grace: float) -> None:
        self.handler = handler
        self.listener = listener
        self.limit = limit
        self.grace = grace
        self._name = getattr(handler, "__qualname__", None) or type(handler).__name__
        self._live: dict[Socket, Task[None]] = {}
        self._pause = FIRST_PAUSE
        self._quiet_until = 0
        # The serving task, while it waits for a connection to end.
        self._waiting: Task[Any] | None = None
        self._why = ""

    def run(self) -> None:
        """Accept until cancelled, or until the listener is closed; then end the handlers."""
        try:
            self.accept_all()
        finally:
            self.end()

    def accept_all(self) -> None:
        while self.listener.fileno() >= 0:
            if self.limit is not None and len(self._live) >= self.limit:
                self._await_an_end(f"one of {self.limit} connections (limit) to end")
            else:
                self._accept()

    def end(self) -> None:
        """Accept no more; give the handlers their grace, then cancel and join them."""
        self.listener.close()
        try:
            with shield(self.grace):
                while self._live:
                    self._await_an_end(f"{len(self._live)} handlers to end")
        finally:
            with shield():
                tasks = list(self._live.values())
                for task in tasks:
                    task.cancel("the server stops")
                for task in tasks:
                    task.join()
            for conn in self._live:  # those whose handlers never ran
                conn.close()
            self._live.clear()

    def _accept(self) -> None:
        try:
            conn, peer = self.listener.accept()
        except OSError as error:
            if self.listener.fileno() < 0:
                return
            if error.errno in _EXHAUSTED:
                self._rest(error)
            elif error.errno in _PASSING:
                yield_now()
            else:
                raise
            return
        self._pause = FIRST_PAUSE
        task = spawn(self._handle, conn, peer)
        task.name = f"{self._name} {show(peer)}"
        self._live[conn] = task

    @calls_user_code
    def _handle(self, conn: Socket, peer: Any) -> None:
        try:
            self.handler(conn, peer)
        finally:
            del self._live[conn]
            self._tell_of_an_end()
            if not conn.detached:
                conn.close()

    def _rest(self, error: OSError) -> None:
        """Fds or memory have run out: leave the backlog alone until a connection ends."""
        clock = this_hub().timers.clock
        if clock() >= self._quiet_until:
            log.warning(
                "accepting on %s pauses: %s; %d connections are open, further ones wait in the "
                "backlog (raise_nofile_limit() and limit= are the cures)",
                show(self.listener.getsockname()),
                error,
                len(self._live),
            )
        seconds, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        self._await_an_end("fds or memory to accept with", this_hub().timers.after(seconds))
        self._quiet_until = clock() + int(EPISODE * 1e9)

    def _await_an_end(self, why: str, deadline: int = FAR) -> None:
        """Park until a handler ends or the deadline passes."""
        hub = this_hub()
        task = hub.prepare()
        self._waiting, self._why = task, why
        hub.wait(task, self, deadline)

    def _tell_of_an_end(self) -> None:
        task, self._waiting = self._waiting, None
        if task is not None:
            wake(task)

    def abandon(self, task: Task[Any]) -> bool:
        self._waiting = None
        return True

    def reason(self, task: Task[Any]) -> str:
        return f"serve: waits for {self._why}"
