"""What goes over a connection: a Request one way, a Response the other; or an HttpError."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import cached_property
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

MAX_FIELDS = 32


class HttpError(Exception):
    """What the client did can't be answered as it wished: ``status`` says why, ``reason`` how."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.headers = headers or {}


@dataclass
class Request:
    """A complete request. Header names are in lower case; ``target`` is as the client wrote it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""
    keep_alive: bool = True
    client: str = ""
    """The address that it came from."""

    @property
    def path(self) -> str:
        return self._url[0]

    @cached_property
    def query(self) -> dict[str, str]:
        """The fields of the query, decoded; of a repeated one the last. Raises HttpError (400)."""
        try:
            fields = parse_qsl(
                self._url[1], keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
            )
        except UnicodeDecodeError:
            raise HttpError(400, "the query is not UTF-8") from None
        except ValueError:
            raise HttpError(400, f"the query has more than {MAX_FIELDS} fields") from None
        return dict(fields)

    @cached_property
    def _url(self) -> tuple[str, str]:
        try:
            url = urlsplit(self.target)
        except ValueError:
            raise HttpError(400, "the target is not a URL") from None
        return url.path, url.query


@dataclass
class Response:
    """A response; what every one carries (length, date, connection) is added on the way out."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(
        self, *, keep_alive: bool, with_body: bool = True, with_length: bool = True
    ) -> bytes:
        """The bytes to send; a HEAD request is answered ``with_body=False``.

        Without a length the body ends with the connection, so more of it may follow.
        """
        status = HTTPStatus(self.status)
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"Date: {formatdate(usegmt=True)}",
            f"Connection: {'keep-alive' if keep_alive else 'close'}",
            "X-Content-Type-Options: nosniff",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        if status is not HTTPStatus.NOT_MODIFIED:
            lines.append(f"Content-Type: {self.content_type}")
        if status is not HTTPStatus.NOT_MODIFIED and with_length:
            lines.append(f"Content-Length: {len(self.body)}")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        return head + self.body if with_body else head
