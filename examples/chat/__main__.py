"""python -m examples.chat: the options, and how it begins and ends."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import greenpump as gp

from .access import Access
from .board import Board
from .chat import Chat
from .limits import Limits
from .stores import Bounds, StoreDown, open_store

GRACE = 5.0
"""Seconds for requests under way when the chat ends, and for telling all clients to go."""


def main() -> int:
    """Serve the chat until Ctrl-C or SIGTERM."""
    options = parse_options()
    if options.access_log:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    gp.raise_nofile_limit()
    try:
        if options.processes > 1:
            serve_in_processes(options)
        else:
            gp.run(serve_here, options, hubs=options.hubs)
    except KeyboardInterrupt:
        print()
    except (OSError, OverflowError, StoreDown, ValueError) as error:
        print(f"can't serve on {options.host}:{options.port}: {error}", file=sys.stderr)
        return 1
    return 0


def serve_here(options: argparse.Namespace) -> None:
    """In this process, on one or several hubs."""
    with gp.move_on_after() as life, make_chat(options) as chat:
        stopper = gp.spawn(stop_on_sigterm, life)
        gp.serve(
            chat.handle_conn, listen(options), hubs=options.hubs, tls=tls(options), grace=GRACE
        )
        stopper.cancel()


def stop_on_sigterm(life: gp.Scope) -> None:
    with gp.signals(signal.SIGTERM) as arriving:
        arriving.recv()
        life.cancel("SIGTERM")


def serve_in_processes(options: argparse.Namespace) -> None:
    """In several processes, each with a chat of its own; they have the store in common."""
    if not options.store.startswith("redis:"):
        raise ValueError("processes need a store that they can share: --store redis://...")
    chats: list[Chat] = []

    def handle_conn(conn: gp.Socket, peer: Any) -> None:
        if not chats:  # the first connection in this process
            chats.append(make_chat(options, Board(Path(folder))))
            gp.spawn(chats[0].keep_pinned)
            gp.spawn(drain_when_told, chats[0])
        chats[0].handle_conn(conn, peer)

    with TemporaryDirectory(prefix="chat-") as folder:
        gp.serve(
            handle_conn, listen(options), processes=options.processes, tls=tls(options), grace=GRACE
        )


def drain_when_told(chat: Chat) -> None:
    """Before the signal does what it did: end ``serve``, and with it the process."""
    with gp.signals(signal.SIGTERM, signal.SIGINT) as arriving:
        signum = arriving.recv()
        chat.close()
    signal.raise_signal(signum)


def make_chat(options: argparse.Namespace, board: Board | None = None) -> Chat:
    store = open_store(options.store, Bounds(messages=options.history))
    limits = Limits(rate=options.rate, burst=options.burst, poll_seconds=options.poll_seconds)
    access = Access(
        secret=os.environ.get("CHAT_SECRET", ""),
        admin=os.environ.get("CHAT_ADMIN", ""),
        origins=tuple(options.origin),
    )
    return Chat(store, limits, access, alone=options.hubs == 1, board=board)


def listen(options: argparse.Namespace) -> gp.Socket:
    several = options.processes * options.hubs > 1
    listener = gp.listen((options.host, options.port), reuse_port=several)
    port = listener.getsockname()[1]
    scheme = "https" if options.tls_cert else "http"
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(f"The chat is at {scheme}://{host}:{port} (Ctrl-C stops it)", flush=True)
    return listener


def tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    if not options.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options.tls_cert, options.tls_key)
    context.set_alpn_protocols(["http/1.1"])
    return context


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.chat",
        description="The comet chat.",
        epilog="From the environment: CHAT_SECRET, with which only who has a token comes in "
        "(python -m examples.chat.tokens), and CHAT_ADMIN, the administrator's token.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="the address to listen on")
    add("--port", type=int, default=8000, help="0: a free one")
    add("--store", default="sqlite:chat.db", help="memory, sqlite:FILE or redis://HOST:PORT/DB")
    add(
        "--hubs", type=positive(int), default=1, help="threads that serve; for a Python without GIL"
    )
    add("--processes", type=positive(int), default=1, help="that serve; they need a Redis")
    add(
        "--history",
        type=positive(int),
        default=Bounds().messages,
        help="messages kept of a channel",
    )
    add("--rate", type=positive(float), default=Limits.rate, help="messages a second of one client")
    add("--burst", type=positive(int), default=Limits.burst, help="and how many at once")
    seconds = positive(float, 3600)
    add("--poll-seconds", type=seconds, default=Limits.poll_seconds, help="how long a poll waits")
    add("--tls-cert", help="the certificate, with those between it and the root, as PEM")
    add("--tls-key", help="its private key, if that isn't in the same file")
    add("--origin", action="append", default=[], help="another origin whose pages may come in")
    add("--access-log", action="store_true", help="a line on stderr for each request")
    return parser.parse_args()


def positive(kind: type[int] | type[float], most: float = 1e9) -> Callable[[str], float]:
    """What reads a number above 0, and of at most ``most``, for an option."""

    def read(text: str) -> float:
        number = kind(text)
        if not 0 < number <= most:
            raise argparse.ArgumentTypeError(f"{text} is not above 0, and at most {most:g}")
        return number

    return read


if __name__ == "__main__":
    sys.exit(main())
