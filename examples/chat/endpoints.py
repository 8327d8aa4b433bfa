"""The endpoints that clients talk to.

CComet's three, with the fields that its clients send:

    GET  /sign?channel&sname                 tell the channel that sname is here
    GET  /publish?channel&sname&msg          say something; or POST {channel, sname, msg, cid}
    GET  /subscribe?channel&sname&seqid      what was said from seqid on; waits until there is some

They answer with a list of items (``message.py``) as JSON or, to a GET with ``callback``, as JSONP.
Every item of an answer ends what the client knows: it goes on at ``seqid + 1`` of the last, or with
``since``, the ``id`` of the last, which notices, too, when the history was lost or cut short.

The same stream by other means, from ``since`` on, or from the ``last`` so many messages on:

    GET  /stream?channel&since               server-sent events
    GET  /socket?channel&sname&since         WebSocket (``transports/websocket.py``)

And what a page asks besides:

    GET  /history?channel&before&limit       messages before the number ``before``, for scrolling
    GET  /presence?channel                   who is there
    GET  /unread?channel&since               how many messages came after that
"""

from __future__ import annotations

import json
from collections.abc import Callable

from . import access_log
from .access import Access
from .channel import RECENT, Channel
from .fields import MAX_SEQID, Fields
from .http import Connection, HttpError, Request, Response
from .limits import Rates, TooMany
from .message import Message, Notice, Position
from .node import BATCH, Node
from .stores import StoreDown
from .transports.events import EventStream
from .transports.jsonp import callback_of
from .transports.poll import Poll, answer, reply
from .transports.websocket import WebSocket, handshake

Handover = Callable[[Connection], Response | None]
"""What an endpoint returns that wants the connection itself. Called, it may answer after all."""
Endpoint = Callable[[Request], "Response | Handover"]


class Endpoints:
    """The endpoints of one node."""

    def __init__(self, node: Node, access: Access) -> None:
        self._node = node
        self._limits = node.limits
        self._access = access
        self._rates = Rates(node.limits)
        self._on_message = self.on_message  # one for all WebSockets
        self.routes: dict[str, dict[str, Endpoint]] = {
            "/sign": {"GET": self.sign},
            "/publish": {"GET": self.publish, "POST": self.publish_json},
            "/subscribe": {"GET": self.subscribe},
            "/stream": {"GET": self.stream},
            "/socket": {"GET": self.socket},
            "/history": {"GET": self.history},
            "/presence": {"GET": self.presence},
            "/unread": {"GET": self.unread},
        }

    # -- CComet's ----------------------------------------------------------------------------------

    def sign(self, request: Request) -> Response:
        fields = Fields(request.query, self._limits)
        channel = self._channel(fields, fields.sname)
        self._node.store.tell(Notice(channel.name, "SIGN", fields.sname))
        return self._reply(request, _status("sign in", channel.position))

    def publish(self, request: Request) -> Response:
        # By GET, as the original has it: another site could make a browser do it.
        self._access.check_origin(request)
        message = self._publish(Fields(request.query, self._limits), request.client)
        return self._reply(request, _status("publish", message.position))

    def publish_json(self, request: Request) -> Response:
        # A form on another site can't send this type without asking first, as CORS has it.
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json":
            raise HttpError(415, "publish takes Content-Type: application/json")
        self._access.check_origin(request)
        message = self._publish(Fields.of_json(request.body, self._limits), request.client)
        return self._reply(request, _status("publish", message.position))

    def subscribe(self, request: Request) -> Response | Handover:
        fields = Fields(request.query, self._limits)
        sname = fields.sname
        channel = self._channel(fields, sname)
        position = fields.since or self._place(channel, fields)
        seconds = self._limits.poll_seconds
        if "wait" in fields.values:
            seconds = min(seconds, fields.number("wait", 3600))
        callback = callback_of(request)
        if items := self._node.since(channel, position):
            return answer(items, callback)

        self._check_room(channel)

        def wait(connection: Connection) -> Response | None:
            if seconds < 1 or connection.has_more:  # who has gone on already isn't made to wait
                return answer([channel.item("NOOP")], callback)
            Poll(self._node, connection.conn, request).wait(channel, sname, seconds)
            return None

        return wait

    # -- streams -----------------------------------------------------------------------------------

    def stream(self, request: Request) -> Handover:
        fields = Fields(request.query, self._limits)
        sname = fields.sname_or_none
        channel = self._channel(fields, sname)
        last_id = request.headers.get("last-event-id")
        if last_id is not None:
            fields = Fields({**fields.values, "since": last_id}, self._limits)
        position = fields.since or self._newest(channel, fields)
        self._check_room(channel)

        def begin(connection: Connection) -> None:
            stream = EventStream(self._node, connection.conn, connection.client)
            stream.begin(channel, sname, position)

        return begin

    def socket(self, request: Request) -> Handover:
        self._access.check_origin(request)
        accepted = handshake(request)
        fields = Fields(request.query, self._limits)
        start = self._subscription(fields) if "channel" in fields.values else None

        def begin(connection: Connection) -> None:
            websocket = WebSocket(self._node, connection.conn, connection.client, self._on_message)
            websocket.write(accepted)
            if start is not None:
                with websocket.answering():
                    self._follow(websocket, *start)
            websocket.read(connection.rest)

        return begin

    def on_message(self, websocket: WebSocket, message: str | bytes) -> None:
        """A client's message on a WebSocket."""
        cid = None
        try:
            if isinstance(message, bytes):
                websocket.close(1003, "messages are texts")
                return
            fields = Fields.of_json(message, self._limits)
            cid = fields.values.get("cid")
            kind = fields.values.get("type")
            if kind == "publish":
                said = self._publish(fields, websocket.client)
                websocket.say(**_content("publish", said.position), cid=cid)
            elif kind == "subscribe":
                self._follow(websocket, *self._subscription(fields))
            elif kind == "unsubscribe":
                for channel in websocket.channels:
                    if channel.name == fields.channel:
                        websocket.leave(channel)
            elif kind == "ping":  # for pages, which can't send WebSocket's own
                websocket.say(type="pong", cid=cid)
            else:
                raise HttpError(400, "type is none of publish, subscribe, unsubscribe, ping")
        except (HttpError, StoreDown) as error:
            refusal = as_refusal(error)
            self._node.counters.refused += 1
            access_log.refused(websocket.client, "WebSocket", refusal.status, refusal.reason)
            websocket.say(type=str(refusal.status), reason=refusal.reason, cid=cid)

    # -- questions ---------------------------------------------------------------------------------

    def history(self, request: Request) -> Response:
        fields = Fields(request.query, self._limits)
        channel = self._channel(fields)
        before = fields.number("before", MAX_SEQID)
        limit = fields.number("limit", BATCH, default=50)
        return answer(self._node.before(channel, before, limit), callback_of(request))

    def presence(self, request: Request) -> Response:
        channel = self._channel(Fields(request.query, self._limits))
        return self._reply(request, [hello(channel)])

    def unread(self, request: Request) -> Response:
        fields = Fields(request.query, self._limits)
        channel = self._channel(fields)
        position, since = channel.position, fields.since
        seen = since.seq if since and since.epoch == position.epoch else -1
        count = max(position.seq - seen, 0)
        return self._reply(request, [{**_content("unread", position), "count": count}])

    # -- parts of them -----------------------------------------------------------------------------

    def _publish(self, fields: Fields, client: str) -> Message:
        channel, sname, msg, cid = fields.channel, fields.sname, fields.msg, fields.cid
        self._access.check_token(fields.token, channel, sname)
        self._rates.check(client)
        return self._node.publish(channel, sname, msg, cid)

    def _subscription(self, fields: Fields) -> tuple[Channel, str, Position]:
        sname = fields.sname_or_none
        channel = self._channel(fields, sname)
        self._check_room(channel)
        return channel, sname, fields.since or self._newest(channel, fields)

    def _follow(
        self, websocket: WebSocket, channel: Channel, sname: str, position: Position
    ) -> None:
        if channel in websocket.channels:
            raise HttpError(409, "this WebSocket is subscribed to the channel already")
        if len(websocket.channels) >= self._limits.subscriptions:
            raise TooMany(f"more than {self._limits.subscriptions} channels on one WebSocket")
        websocket.say(**hello(channel))
        websocket.catch_up(channel, position)
        websocket.join(channel, sname)

    def _channel(self, fields: Fields, sname: str = "") -> Channel:
        name = fields.channel
        self._access.check_token(fields.token, name, sname)
        return self._node.channel(name)

    def _check_room(self, channel: Channel) -> None:
        if len(channel.subscribers) >= self._limits.subscribers:
            raise TooMany("the channel is full")

    def _place(self, channel: Channel, fields: Fields) -> Position:
        """Where a client of the original is: it says the number of the next message."""
        seqid = fields.number("seqid", MAX_SEQID)
        epoch = fields.values.get("epoch", channel.position.epoch)
        return Position(str(epoch), seqid - 1)

    def _newest(self, channel: Channel, fields: Fields) -> Position:
        """The position before the ``last`` so many messages; none of them if it doesn't say."""
        epoch, seq = channel.position
        oldest = channel.oldest_at_hand
        last = fields.number("last", RECENT, default=0)
        return Position(epoch, max(seq - last, oldest - 1) if last else seq)

    def _reply(self, request: Request, contents: list[dict[str, object]]) -> Response:
        return reply(json.dumps(contents), callback_of(request))


def hello(channel: Channel) -> dict[str, object]:
    """What begins a subscription: where the channel is, and who is there."""
    count, names = channel.presence.everybody()
    where = _content("HELLO", channel.position)
    return {**where, "channel": channel.name, "count": count, "names": names}


def as_refusal(error: HttpError | StoreDown) -> HttpError:
    """What the client is told. While the store is down nothing is lost: it may try again."""
    if isinstance(error, StoreDown):
        return HttpError(503, "the store can't be reached, try again", {"Retry-After": "1"})
    return error


def complain(request: Request, error: HttpError) -> Response:
    """The answer to a request that can't be met. A script is only run when its status is 200."""
    try:
        callback = callback_of(request)
    except HttpError:
        callback = ""
    text = json.dumps([{"type": str(error.status), "reason": error.reason}])
    response = reply(text, callback, error.status)
    response.headers = {**response.headers, **error.headers}
    return response


def _content(kind: str, position: Position) -> dict[str, object]:
    epoch, seq = position
    return {"type": kind, "seqid": seq, "epoch": epoch, "id": str(position)}


def _status(kind: str, position: Position) -> list[dict[str, object]]:
    return [_content(kind, position)]
