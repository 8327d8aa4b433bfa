"""python -m examples.chat [--host 127.0.0.1] [--port 8000]"""

from __future__ import annotations

import argparse
import sys

import greenpump as gp

from .chat import POLL_SECONDS, Chat

GRACE = 0.5
"""Seconds for requests under way when Ctrl-C comes: enough for a post, and nobody waits for polls,
which their clients send again."""


def main() -> int:
    """Serve the chat until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m examples.chat", description="The comet chat.")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="0: a free one")
    parser.add_argument(
        "--poll-seconds",
        type=float,
        default=POLL_SECONDS,
        help="how long a poll waits for news (default: %(default)g)",
    )
    options = parser.parse_args()
    chat = Chat(options.poll_seconds)
    try:
        listener = gp.listen((options.host, options.port))
    except OSError as error:
        print(f"can't serve on {options.host}:{options.port}: {error}", file=sys.stderr)
        return 1
    port = listener.getsockname()[1]
    print(f"The chat is at http://{options.host}:{port} (Ctrl-C stops it)", flush=True)
    try:
        gp.serve(chat.handle_conn, listener, grace=GRACE)
    except KeyboardInterrupt:
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
