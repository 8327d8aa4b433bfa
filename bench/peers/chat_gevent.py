"""gevent: its pywsgi and geventwebsocket, a greenlet a client, `send` to one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gevent.pywsgi import WSGIServer
from geventwebsocket.exceptions import WebSocketError
from geventwebsocket.handler import WebSocketHandler
from geventwebsocket.websocket import WebSocket

from bench.peers.room import Room


def run(port: int, recv_size: int) -> None:
    room = Room()
    subscribers: set[WebSocket] = set()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        websocket: WebSocket = environ["wsgi.websocket"]
        if environ["QUERY_STRING"] == "channel=room":
            subscribers.add(websocket)
            websocket.send(room.hello(len(subscribers)))
        try:
            while (said := websocket.receive()) is not None:
                message, answer = room.publish(said)
                broadcast(message)
                websocket.send(answer)
        except WebSocketError:
            pass  # it left
        subscribers.discard(websocket)
        return []

    def broadcast(message: str) -> None:
        for subscriber in list(subscribers):
            try:
                subscriber.send(message)
            except WebSocketError:
                subscribers.discard(subscriber)

    server = WSGIServer(
        ("127.0.0.1", port), application, log=None, handler_class=WebSocketHandler, backlog=4096
    )
    server.serve_forever()
