"""Chat: the server. A client is a function that runs from what it says to when it falls silent."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from dataclasses import asdict
from typing import Any

import greenpump as gp

from . import access_log, metrics, pages
from .access import Access
from .admin import Admin
from .board import SECONDS, Board
from .endpoints import Endpoint, Endpoints, Handover, as_refusal, complain
from .http import Connection, HttpError, Request, Response
from .limits import Limits
from .metrics import Numbers
from .node import Node
from .resting import KeptAlive
from .stores import Store, StoreDown
from .transports.poll import reply

DRAIN_SECONDS = 2.0
"""How long clients that were told to go may take for it."""


class Chat:
    """The chat over one store. In a with-statement it is open; its end sends all clients away."""

    def __init__(
        self,
        store: Store,
        limits: Limits = Limits(),  # noqa: B008 - it is immutable
        access: Access = Access(),  # noqa: B008
        *,
        alone: bool = True,
        board: Board | None = None,
    ) -> None:
        """``alone``: there is one node, so no other need be told who is here.

        ``board``: where the processes of one server tell each other what they count.
        """
        self.store = store
        self._limits = limits
        self._silence_ms = round(1000 * limits.poll_seconds)
        self._access = access
        self._alone = alone and not store.shared
        self._board = board
        self._pages = pages.routes()
        self._draining = False
        self._hub = threading.local()
        self._nodes: list[Node] = []

    # -- clients -----------------------------------------------------------------------------------

    def handle_conn(self, conn: gp.Socket, peer: Any) -> None:
        """A client has come; a task is only for those that say something."""
        if self._draining:
            return  # it finds another server, or this one when it is back
        address = ""
        if isinstance(peer, tuple):
            address = peer[0]
            # Whom the network has lost never acknowledges: the kernel would try for 15 minutes.
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._silence_ms)
        KeptAlive(self.node, conn, sys.intern(address)).rest(KeptAlive.SECONDS)

    def talk(self, conn: gp.Socket, client: str) -> None:
        """Answer a client's requests, as long as it sends some."""
        node = self.node
        node.talking += 1
        try:
            self._talk(conn, client)
        finally:
            node.talking -= 1

    def _talk(self, conn: gp.Socket, client: str) -> None:
        connection = Connection(conn, client)
        try:
            for request in connection:
                answer = self._answer(request)
                response = answer if isinstance(answer, Response) else answer(connection)
                if response is None:
                    return  # the connection has become a subscriber's
                connection.respond(request, response)
        except HttpError as error:
            self.node.counters.refused += 1
            access_log.refused(client, "HTTP", error.status, error.reason)
            connection.refuse(error)
        except (OSError, StoreDown):
            pass  # the client left, or is to come back later
        except Exception:
            connection.refuse(HttpError(500, "this is the server's fault"))
            conn.close()
            raise  # greenpump reports it
        if connection.rests:
            KeptAlive(self.node, conn, client).rest(KeptAlive.SECONDS)
        else:
            conn.close()

    def _answer(self, request: Request) -> Response | Handover:
        start = time.monotonic()
        counters = self.node.counters
        counters.requests += 1
        answer: Response | Handover
        try:
            answer = self._endpoint(request)(request)
        except (HttpError, StoreDown) as error:
            counters.refused += 1
            answer = complain(request, as_refusal(error))
        status = answer.status if isinstance(answer, Response) else "waits"
        access_log.answered(request, status, time.monotonic() - start)
        return answer

    def _endpoint(self, request: Request) -> Endpoint:
        methods = self._routes.get(request.path)
        if methods is None:
            raise HttpError(404, "there is nothing here")
        endpoint = methods.get(request.method)
        if endpoint is None:
            allowed = {"Allow": ", ".join(sorted(methods))}
            raise HttpError(405, f"{request.method} can't be done here", allowed)
        return endpoint

    # -- the hub's share ---------------------------------------------------------------------------

    @property
    def node(self) -> Node:
        """The node of the calling hub, made when it is first asked for."""
        node: Node | None = getattr(self._hub, "node", None)
        if node is None:
            node = Node(self.store, self._limits, self.talk, alone=self._alone)
            self._nodes.append(node)
            self._hub.node = node
            routes = Endpoints(node, self._access).routes | Admin(node, self._access).routes
            own: dict[str, dict[str, Endpoint]] = {
                "/stats": {"GET": self._stats},
                "/metrics": {"GET": self._metrics},
            }
            self._hub.routes = self._pages | routes | own
        return node

    @property
    def _routes(self) -> dict[str, dict[str, Endpoint]]:
        routes: dict[str, dict[str, Endpoint]] = self._hub.routes
        return routes

    def close(self) -> None:
        """Take no more clients, send those away that are here, and close the store. Parks."""
        self._draining = True
        ends = [gp.spawn_on(node.hub, self._end, node) for node in self._nodes]
        for end in ends:
            end.join()
        self._nodes.clear()
        self.store.close()

    def _end(self, node: Node) -> None:
        """End a node, on its own hub."""
        node.drain()
        with gp.move_on_after(DRAIN_SECONDS):
            while len(node.wheel) or node.talking:
                gp.sleep(0.02)
        node.close()

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *exc: object) -> None:
        with gp.shield():
            self.close()

    # -- what is going on --------------------------------------------------------------------------

    def numbers(self) -> Numbers:
        """What this process has counted."""
        nodes = list(self._nodes)
        return {
            **metrics.total(asdict(node.counters) for node in nodes),
            "channels": sum(len(node.channels) for node in nodes),
            "resting": sum(len(node.wheel) for node in nodes),
        }

    def keep_pinned(self) -> None:
        """Tell the other processes, for ever."""
        assert self._board is not None
        while True:
            self._board.pin(self.numbers())
            gp.sleep(SECONDS)

    def _numbers_of_all(self) -> dict[str, Numbers]:
        others = self._board.read() if self._board is not None else {}
        return {**others, str(os.getpid()): self.numbers()}

    def _stats(self, request: Request) -> Response:
        of_all = self._numbers_of_all()
        return reply(json.dumps({**metrics.total(of_all.values()), "processes": of_all}))

    def _metrics(self, request: Request) -> Response:
        body = metrics.prometheus(self._numbers_of_all(), labelled=self._board is not None)
        return Response(200, body, metrics.CONTENT_TYPE)
