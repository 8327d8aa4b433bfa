"""A Parser by httptools, which calls ``on_...`` as the pieces of a request come by."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from .draft import MAX_HEAD, MAX_REQUEST, Draft
from .message import HttpError, Request


class HttptoolsParser:
    """See ``Parser``."""

    def __init__(self) -> None:
        self.complete: deque[Request] = deque()
        self.error: HttpError | None = None
        self.started = False
        self.rest = b""
        self._draft = Draft()
        self._fed = 0
        self._parser = HttpRequestParser(self)
        self._method = b""

    def feed(self, data: bytes) -> None:
        if self.error is not None:
            return
        self._fed += len(data)
        try:
            self._feed(data)
            # The parser reports a header when it is complete: one without an end shows only here.
            if self.started and not self._draft.head_is_complete and self._fed > MAX_HEAD:
                raise HttpError(431, f"the head is longer than {MAX_HEAD} bytes")
            if self._fed > MAX_REQUEST:
                raise HttpError(413, f"the request is longer than {MAX_REQUEST} bytes")
        except HttpError as error:
            self.error = error
        except HttpParserCallbackError as error:
            if not isinstance(error.__context__, HttpError):
                raise
            self.error = error.__context__
        except HttpParserInvalidMethodError:
            self.error = HttpError(501, "unknown method")
        except HttpParserError as error:
            self.error = HttpError(400, f"not HTTP: {error}")

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if not self.started:
                # The request is complete and gets its response; what follows need not be HTTP.
                self.rest, self.error = rest, HttpError(400, "nothing can follow an Upgrade")
                return
            # Java's client and curl --http2 offer h2c with any request. Nobody takes them up on it,
            # so a body is one; but httptools takes it for h2c, and must be told of it again.
            self._parser = HttpRequestParser(
                SimpleNamespace(on_body=self.on_body, on_message_complete=self.on_message_complete)
            )
            head = f"POST / HTTP/1.1\r\nConnection: close\r\n{self._draft.framing}\r\n\r\n"
            self._parser.feed_data(head.encode("ascii") + rest)

    @property
    def wants_continue(self) -> bool:
        draft = self._draft
        return draft.head_is_complete and "expect" in draft.headers and not draft.body

    # -- called by httptools -----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.started = True

    def on_url(self, part: bytes) -> None:
        self._draft.add_target(part)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._draft.add_header(name, value)

    def on_headers_complete(self) -> None:
        self._method = self._parser.get_method()
        self._draft.end_head(self._parser.get_http_version())

    def on_body(self, part: bytes) -> None:
        self._draft.add_body(part)

    def on_message_complete(self) -> None:
        is_upgrade = self._parser.should_upgrade()
        if is_upgrade and self._draft.framing:
            return  # its body is still to come: see _feed
        keep_alive = self._parser.should_keep_alive() and not is_upgrade
        request = self._draft.finish(self._method, keep_alive=keep_alive)
        self.complete.append(request)
        self._draft, self._fed, self.started = Draft(), 0, False
