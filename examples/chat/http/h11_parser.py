"""A Parser by h11, which is asked for events; for machines that httptools has no wheel for."""

from __future__ import annotations

from collections import deque

import h11

from .draft import MAX_HEAD, MAX_REQUEST, Draft
from .message import HttpError, Request


class H11Parser:
    """See ``Parser``. h11 also wants to see each response go out: a new one per request doesn't."""

    def __init__(self) -> None:
        self.complete: deque[Request] = deque()
        self.error: HttpError | None = None
        self.started = False
        self.rest = b""
        self._begin(b"")

    def feed(self, data: bytes) -> None:
        if self.error is not None:
            return
        self.started = True
        self._fed += len(data)
        try:
            self._h11.receive_data(data)
            self._take_events()
            if self._fed > MAX_REQUEST:
                raise HttpError(413, f"the request is longer than {MAX_REQUEST} bytes")
        except HttpError as error:
            self.error = error
        except h11.RemoteProtocolError as error:
            self.error = HttpError(error.error_status_hint, f"not HTTP: {error}")

    @property
    def wants_continue(self) -> bool:
        return bool(self._h11.they_are_waiting_for_100_continue)

    def _begin(self, rest: bytes) -> None:
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._draft = Draft()
        self._method = b""
        self._fed = len(rest)
        self.started = bool(rest)
        if rest:
            self._h11.receive_data(rest)

    def _take_events(self) -> None:
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Request):
                self._method = event.method
                self._draft.add_target(event.target)
                for name, value in event.headers:
                    self._draft.add_header(name, value)
                self._draft.end_head(event.http_version.decode("ascii"))
            elif isinstance(event, h11.Data):
                self._draft.add_body(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                keep_alive = self._h11.their_state is h11.DONE
                self.complete.append(self._draft.finish(self._method, keep_alive=keep_alive))
                if not keep_alive:
                    self.started = False
                    self.rest = self._h11.trailing_data[0]
                    return
                self._begin(self._h11.trailing_data[0])
            else:
                return
