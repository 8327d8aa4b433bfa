"""Draft: a request on its way in. Both parsers fill one, so both keep the same limits."""

from __future__ import annotations

from .message import HttpError, Request

MAX_HEAD = 16 * 1024
MAX_BODY = 16 * 1024
"""Bytes. A message of 512 characters, each one escaped, in a URL or in JSON, fits well."""
MAX_REQUEST = 4 * (MAX_HEAD + MAX_BODY)
"""Everything, so also the chunk headers and trailers that nobody looks at."""


class Draft:
    """Collects a request piece by piece; each method raises HttpError when it is too much."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.head_is_complete = False
        self._head_size = 0

    def add_target(self, part: bytes) -> None:
        self.target += part
        self._count(len(part), 414, "the URL is longer than")

    def add_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(": \r\n"), 431, "the headers are longer than")
        if self.head_is_complete:
            return  # a trailer: nothing here asks for one
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if key in self.headers:
            if key == "host":
                raise HttpError(400, "more than one Host header")
            text = f"{self.headers[key]}, {text}"
        self.headers[key] = text

    def end_head(self, version: str) -> None:
        """The head is complete: refuse now what can't be answered, before its body arrives."""
        self.head_is_complete = True
        if version not in ("1.0", "1.1"):
            raise HttpError(505, "this server speaks HTTP/1.1")
        if version == "1.1" and "host" not in self.headers:
            raise HttpError(400, "no Host header")
        if "content-length" in self.headers and "transfer-encoding" in self.headers:
            # Whoever passed this on may think that the request ends elsewhere, and another begins.
            raise HttpError(400, "both a Content-Length and a Transfer-Encoding")
        if int(self.headers.get("content-length", "0")) > MAX_BODY:
            raise too_long()
        if version == "1.0":
            self.headers.pop("expect", None)  # RFC 9110, 10.1.1: it knows no 100
        expected = self.headers.get("expect", "100-continue").lower()
        if expected != "100-continue":
            raise HttpError(417, "the only expectation that can be met is 100-continue")

    @property
    def framing(self) -> str:
        """The header that says how long the body is, "" if there is none."""
        for name in ("content-length", "transfer-encoding"):
            if self.headers.get(name, "0") != "0":
                return f"{name}: {self.headers[name]}"
        return ""

    def add_body(self, part: bytes) -> None:
        self.body += part
        if len(self.body) > MAX_BODY:
            raise too_long()

    def finish(self, method: bytes, *, keep_alive: bool) -> Request:
        return Request(
            method.decode("ascii"),
            self.target.decode("latin-1"),
            self.headers,
            bytes(self.body),
            keep_alive,
        )

    def _count(self, size: int, status: int, complaint: str) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD:
            raise HttpError(status, f"{complaint} {MAX_HEAD} bytes")


def too_long() -> HttpError:
    return HttpError(413, f"the body is longer than {MAX_BODY} bytes")
