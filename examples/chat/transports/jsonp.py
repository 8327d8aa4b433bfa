"""JSONP: an answer as a script that calls a function of the page's, for the original's clients.

What a client names goes into a script here, so it is where an attacker would write one. The
callback must look like a name and like nothing else; the text is a string literal in which no
character can end it, whether a script file, HTML or an older JavaScript reads it. ``/**/`` keeps
the first bytes out of the client's hands (they could be the header of a Flash file, CVE-2014-4671).
"""

from __future__ import annotations

import json
import re

from ..http import HttpError, Request

CONTENT_TYPE = "text/javascript; charset=utf-8"
_CALLBACK = re.compile(r"[A-Za-z_$][\w$.]{0,63}", re.ASCII)


def callback_of(request: Request) -> str:
    """The function that the client wants called, "" for none. Raises HttpError (400)."""
    callback = request.query.get("callback", "") if request.method == "GET" else ""
    if "callback" in request.query and request.method == "GET" and not is_callback(callback):
        raise HttpError(400, "callback is not the name of a function")
    return callback


def is_callback(name: str) -> bool:
    """Whether ``name`` is fit to be called: a dotted name of at most 64 characters."""
    return _CALLBACK.fullmatch(name) is not None


def encode(callback: str, text: str) -> bytes:
    """A script that calls ``callback`` with ``text``."""
    # json.dumps leaves only ASCII, so no U+2028; "<" could begin "</script>" or "<!--".
    literal = json.dumps(text).replace("<", "\\u003c")
    return f"/**/{callback}({literal});\n".encode("ascii")
