"""Tokens: what lets somebody into a channel, when the chat was started with a secret.

A token is what it allows, in JSON, and a signature (HMAC-SHA256) that only who knows the secret can
make: the application that knows its users makes the tokens, and the chat need not know anybody.

    CHAT_SECRET=... python -m examples.chat.tokens --channel room --sname ann --hours 24
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import sys
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode

ANY = "*"
"""As the channel: all of them; as the name: any."""


class BadToken(Exception):
    """It is missing, was not made with this secret, has expired, or is for something else."""


def make(secret: str, channel: str, sname: str = ANY, seconds: float = 3600) -> str:
    """A token for ``channel``, under the name ``sname``, that is good for ``seconds``."""
    claims = {"channel": channel, "sname": sname, "expires": int(time.time() + seconds)}
    payload = urlsafe_b64encode(json.dumps(claims).encode())
    return f"{payload.decode()}.{_sign(secret, payload)}"


def check(secret: str, token: str, channel: str, sname: str) -> None:
    """Raise BadToken unless ``token`` lets ``sname`` ("": only listens) into ``channel``."""
    payload, _, signature = token.encode(errors="replace").partition(b".")
    if not hmac.compare_digest(_sign(secret, payload).encode(), signature):
        raise BadToken("the token is missing or was not made here")
    claims = json.loads(urlsafe_b64decode(payload))
    if claims["expires"] < time.time():
        raise BadToken("the token has expired")
    if claims["channel"] not in (channel, ANY):
        raise BadToken("the token is for another channel")
    if sname and claims["sname"] not in (sname, ANY):
        raise BadToken("the token is for another name")


def _sign(secret: str, payload: bytes) -> str:
    digest = hmac.digest(secret.encode(), payload, hashlib.sha256)
    return urlsafe_b64encode(digest).decode().rstrip("=")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.chat.tokens", description=__doc__)
    parser.add_argument("--channel", required=True, help=f"{ANY!r}: all")
    parser.add_argument("--sname", default=ANY, help="the only name (default: any)")
    parser.add_argument("--hours", type=float, default=24.0)
    options = parser.parse_args()
    secret = os.environ.get("CHAT_SECRET")
    if not secret:
        sys.exit("the secret is taken from the environment: CHAT_SECRET")
    print(make(secret, options.channel, options.sname, options.hours * 3600))


if __name__ == "__main__":
    main()
