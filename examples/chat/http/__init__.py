"""HTTP/1.1 over a greenpump socket: requests come out of a ``Connection``, responses go in."""

from .connection import Connection
from .message import HttpError, Request, Response

__all__ = ["Connection", "HttpError", "Request", "Response"]
