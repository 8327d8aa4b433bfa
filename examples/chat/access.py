"""Access: who may come in. Other people's pages may not; with a secret, only who has a token."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from . import tokens
from .http import HttpError, Request


@dataclass(frozen=True)
class Access:
    """``secret`` "": channels are open to all. ``admin`` "": there is nobody to administer."""

    secret: str = ""
    admin: str = ""
    origins: tuple[str, ...] = ()
    """Other origins whose pages may use the chat, as "https://example.org"."""

    def check_origin(self, request: Request) -> None:
        """Refuse what a page of another site sends: the user may not know of it.

        Browsers say where a page is from; who is no browser needs no permission.
        """
        origin = request.headers.get("origin")
        if origin in self.origins:
            return
        if origin is None:
            # A script element, say, doesn't tell where the page is from; only that it is elsewhere.
            if request.headers.get("sec-fetch-site") != "cross-site" or self.origins:
                return
            origin = ""
        try:
            host = urlsplit(origin).netloc
        except ValueError:
            host = ""
        if not host or host != request.headers.get("host"):
            raise HttpError(403, "pages of other sites may not do this (see --origin)")

    def check_token(self, token: str, channel: str, sname: str) -> None:
        """Refuse who has no token for this channel and name."""
        if not self.secret:
            return
        try:
            tokens.check(self.secret, token, channel, sname)
        except tokens.BadToken as error:
            raise HttpError(403, str(error)) from None

    def check_admin(self, request: Request) -> None:
        """Refuse who isn't the administrator."""
        if not self.admin:
            raise HttpError(404, "there is nothing here")
        said = request.headers.get("authorization", "")
        if not hmac.compare_digest(said.encode(), f"Bearer {self.admin}".encode()):
            raise HttpError(401, "this is for the administrator", {"WWW-Authenticate": "Bearer"})
