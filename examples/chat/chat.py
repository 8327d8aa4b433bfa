"""Chat: the server. A connection is a function that runs from its first request to its last."""

from __future__ import annotations

from typing import Any

from greenpump import Socket

from . import pages
from .channels import Channels
from .endpoints import Endpoints, complain
from .http import Connection, HttpError, Request, Response

POLL_SECONDS = 30.0


class Chat:
    """Channels, and how they are talked to. ``poll_seconds``: how long a poll waits for news."""

    def __init__(
        self, poll_seconds: float = POLL_SECONDS, channels: Channels | None = None
    ) -> None:
        self.channels = Channels() if channels is None else channels
        self._routes = pages.routes() | Endpoints(self.channels, poll_seconds).routes

    def handle_conn(self, conn: Socket, peer: Any) -> None:
        """Serve one client until it leaves."""
        connection = Connection(conn)
        try:
            for request in connection:
                connection.respond(request, self.answer(request))
        except HttpError as error:
            connection.refuse(error)
        except (ConnectionError, TimeoutError):
            pass  # the client left, or stopped reading: there is nobody to tell
        except Exception:
            connection.refuse(HttpError(500, "this is the server's fault"))
            raise  # greenpump reports it

    def answer(self, request: Request) -> Response:
        """The response to a request; parks where the endpoint does."""
        try:
            methods = self._routes.get(request.path)
            if methods is None:
                raise HttpError(404, "there is nothing here")
            endpoint = methods.get(request.method)
            if endpoint is None:
                allowed = {"Allow": ", ".join(sorted(methods))}
                raise HttpError(405, f"{request.method} can't be done here", allowed)
            return endpoint(request)
        except HttpError as error:
            return complain(request, error)
