"""The endpoints: ``/sign``, ``/publish`` and ``/subscribe``, with the fields CComet's clients send.

    GET  /sign?channel&sname                 tell the channel that sname is here
    POST /publish {channel, sname, msg}      say something (JSON); or GET /publish?channel&sname&msg
    GET  /subscribe?channel&sname&seqid      what was said from seqid on; waits until there is some

All answer with a list of items (``channels.py``) as JSON or, to a GET with ``callback``, as JSONP.
``/subscribe`` takes the ``epoch`` of the last item too, so that a restart can't pass unnoticed, and
``wait``, the seconds to wait at most, if that is less than the server would.
Every item of an answer ends what the client knows: it goes on at ``seqid + 1`` of the last.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping

from greenpump import move_on_after

from . import jsonp
from .channels import Channel, Channels, TooManyChannels
from .http import HttpError, Request, Response

MAX_MESSAGE = 512
MAX_NAME = 64
"""Characters."""
MAX_SEQID = 2**53
"""What JavaScript can count to."""
MAX_WAIT = 3600


class Endpoints:
    """The three endpoints over one set of channels."""

    def __init__(self, channels: Channels, poll_seconds: float) -> None:
        self._channels = channels
        self._poll_seconds = poll_seconds
        self.routes: dict[str, dict[str, Callable[[Request], Response]]] = {
            "/sign": {"GET": self.sign},
            "/publish": {"GET": self.publish, "POST": self.publish_json},
            "/subscribe": {"GET": self.subscribe},
        }

    def sign(self, request: Request) -> Response:
        fields = request.query
        channel, sname = self._channel(fields), _name(fields, "sname")
        seqid = channel.sign(sname)
        return reply(request, _status("sign in", channel, seqid))

    def publish(self, request: Request) -> Response:
        return self._publish(request, request.query)

    def publish_json(self, request: Request) -> Response:
        # A form on another site can't send this type without asking first, as CORS has it.
        if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
            raise HttpError(415, "publish takes Content-Type: application/json")
        try:
            fields = json.loads(request.body)
        except (ValueError, RecursionError):
            raise HttpError(400, "the body is not JSON") from None
        if not isinstance(fields, dict):
            raise HttpError(400, "the body is not a JSON object")
        return self._publish(request, fields)

    def subscribe(self, request: Request) -> Response:
        fields = request.query
        channel = self._channel(fields)
        _name(fields, "sname")
        seqid, epoch = _number(fields, "seqid", MAX_SEQID), fields.get("epoch")
        seconds = self._poll_seconds
        if "wait" in fields:
            seconds = min(seconds, _number(fields, "wait", MAX_WAIT))
        items = channel.since(seqid, epoch)
        if not items:
            # Three things end the wait: news, which cancels the block; the time; and the client,
            # who may hang up. What was said meanwhile is in the history, whatever ended it.
            with move_on_after(seconds) as wait, channel.waiting(wait.cancel) as signs:
                request.wait_hangup()
            items = signs + channel.since(seqid, epoch)
        return reply(request, *(items or [channel.noop()]))

    def _publish(self, request: Request, fields: Mapping[str, object]) -> Response:
        channel, sname = self._channel(fields), _name(fields, "sname")
        seqid = channel.publish(sname, _message(fields))
        return reply(request, _status("publish", channel, seqid))

    def _channel(self, fields: Mapping[str, object]) -> Channel:
        try:
            return self._channels[_name(fields, "channel")]
        except TooManyChannels:
            raise HttpError(429, "too many channels are in use", {"Retry-After": "60"}) from None


def reply(request: Request, *items: str) -> Response:
    """Items, as the client asked for them."""
    text = f"[{','.join(items)}]"
    headers = {"Cache-Control": "no-store"}
    callback = _callback(request)
    if callback is not None:
        return Response(200, jsonp.encode(callback, text), jsonp.CONTENT_TYPE, headers)
    return Response(200, text.encode("ascii"), "application/json", headers)


def complain(request: Request, error: HttpError) -> Response:
    """The answer to a request that can't be met. A script is only run when its status is 200."""
    text = json.dumps([{"type": str(error.status), "reason": error.reason}])
    try:
        callback = _callback(request)
    except HttpError:
        callback = None
    if callback is not None:
        return Response(200, jsonp.encode(callback, text), jsonp.CONTENT_TYPE, error.headers)
    return Response(error.status, text.encode("ascii"), "application/json", error.headers)


def _status(kind: str, channel: Channel, seqid: int) -> str:
    return json.dumps({"type": kind, "seqid": seqid, "epoch": channel.epoch})


# -- fields ----------------------------------------------------------------------------------------


def _callback(request: Request) -> str | None:
    if request.method != "GET":
        return None
    callback = request.query.get("callback")
    if callback is not None and not jsonp.is_callback(callback):
        raise HttpError(400, "callback is not the name of a function")
    return callback


def _text(fields: Mapping[str, object], key: str, limit: int, allowed: str = "") -> str:
    """A field of text: Unicode that can be sent on, printable, neither empty nor too long."""
    text = fields.get(key)
    if not isinstance(text, str):
        raise HttpError(400, f"{key} is missing or not a text")
    text = text.strip()
    if not text:
        raise HttpError(400, f"{key} is empty")
    if len(text) > limit:
        raise HttpError(400, f"{key} is longer than {limit} characters")
    for character in text:
        # Control characters, and halves of surrogate pairs, which no encoding can carry.
        if character not in allowed and unicodedata.category(character) in ("Cc", "Cs"):
            raise HttpError(400, f"{key} contains U+{ord(character):04X}")
    return text


def _name(fields: Mapping[str, object], key: str) -> str:
    return _text(fields, key, MAX_NAME)


def _message(fields: Mapping[str, object]) -> str:
    return _text(fields, "msg", MAX_MESSAGE, allowed="\n\t\r")


def _number(fields: Mapping[str, str], key: str, limit: int) -> int:
    text = fields.get(key, "")
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(limit))):
        raise HttpError(400, f"{key} is not a number from 0 to {limit}")
    return min(int(text), limit)
