"""What the administrator may do, with ``Authorization: Bearer`` and the ``CHAT_ADMIN`` token.

POST /admin/broadcast {channel, sname, msg}   say something, in one's own words or another's
POST /admin/close     {channel}               have everybody leave (who likes may come back)
POST /admin/clear     {channel}               forget what was said
GET  /admin/info?channel                      how far it is, and how many listen on this node
GET  /admin/check?channel                     whether anybody on this node knows it
"""

from __future__ import annotations

import json

from .access import Access
from .endpoints import Endpoint
from .fields import Fields
from .http import Request, Response
from .message import Notice
from .node import Node
from .transports.poll import reply


class Admin:
    """The administrator's endpoints."""

    def __init__(self, node: Node, access: Access) -> None:
        self._node = node
        self._access = access
        self.routes: dict[str, dict[str, Endpoint]] = {
            "/admin/broadcast": {"POST": self.broadcast},
            "/admin/close": {"POST": self.close},
            "/admin/clear": {"POST": self.clear},
            "/admin/info": {"GET": self.info},
            "/admin/check": {"GET": self.check},
        }

    def broadcast(self, request: Request) -> Response:
        fields = self._fields(request)
        message = self._node.publish(fields.channel, fields.sname, fields.msg)
        return _reply(id=str(message.position))

    def close(self, request: Request) -> Response:
        channel = self._fields(request).channel
        self._node.store.tell(Notice(channel, "CLOSE"))
        return _reply(channel=channel)

    def clear(self, request: Request) -> Response:
        channel = self._fields(request).channel
        self._node.store.clear(channel)
        return _reply(channel=channel)

    def info(self, request: Request) -> Response:
        channel = self._node.channel(self._fields(request).channel)
        count, names = channel.presence.everybody()
        return _reply(
            channel=channel.name,
            id=str(channel.position),
            subscribers=len(channel.subscribers),
            count=count,
            names=names,
        )

    def check(self, request: Request) -> Response:
        name = self._fields(request).channel
        return _reply(channel=name, known=name in self._node.channels)

    def _fields(self, request: Request) -> Fields:
        self._access.check_admin(request)
        if request.method == "GET":
            return Fields(request.query, self._node.limits)
        return Fields.of_json(request.body, self._node.limits)


def _reply(**content: object) -> Response:
    return reply(json.dumps([content]))
