"""The page and its parts, read once at the start."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from .http import Request, Response

FOLDER = Path(__file__).parent / "page"
CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
SECURITY = {
    # Everything from this server and nothing inline: text that got into the page as markup, by
    # whatever mistake, would still not run.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


class Page:
    """One file; a browser that has it already is told so."""

    def __init__(self, path: Path) -> None:
        self._body = path.read_bytes()
        self._content_type = CONTENT_TYPES[path.suffix]
        self._etag = f'"{hashlib.sha256(self._body).hexdigest()[:16]}"'
        self._headers = {**SECURITY, "Cache-Control": "no-cache", "ETag": self._etag}

    def __call__(self, request: Request) -> Response:
        if request.headers.get("if-none-match") == self._etag:
            return Response(304, headers=self._headers)
        return Response(200, self._body, self._content_type, self._headers)


def routes() -> dict[str, dict[str, Callable[[Request], Response]]]:
    """The paths that pages are served at."""
    found: dict[str, dict[str, Callable[[Request], Response]]] = {}
    for path in sorted(FOLDER.iterdir()):
        page = Page(path)
        name = "" if path.name == "index.html" else path.name
        found[f"/{name}"] = {"GET": page, "HEAD": page}
    return found
