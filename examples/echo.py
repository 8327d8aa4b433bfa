"""The echo server: TCP and UDP on one port, on as many cores as you like.

    python -m examples.echo [--host 127.0.0.1] [--port 7777] [--processes N] [--hubs N]

Who is silent for a minute is sent away; Ctrl-C lets those who are connected finish. Try it with

    nc 127.0.0.1 7777
    nc -u 127.0.0.1 7777
"""

from __future__ import annotations

import argparse
import socket
import sys
from functools import partial
from typing import Any

import greenpump as gp

RECV_SIZE = 16 * 1024
GREATEST_DATAGRAM = 65535


def echo(conn: gp.Socket, peer: Any, *, silence: float) -> None:
    """Send back what comes, until the peer ends its side or is silent for so many seconds."""
    conn.settimeout(silence)
    total = 0
    try:
        while data := conn.recv(RECV_SIZE):
            conn.sendall(data)
            total += len(data)
    except OSError as error:  # silence, a reset: this connection ends and the others don't
        print(f"{peer}: {error}", flush=True)
    print(f"{peer}: {total} bytes", flush=True)


def echo_datagrams(sock: gp.Socket) -> None:
    """Send every datagram back to where it came from."""
    while True:
        data, sender = sock.recvfrom(GREATEST_DATAGRAM)
        try:
            sock.sendto(data, sender)
        except OSError as error:  # no way back to this one
            print(f"{sender}: {error}", flush=True)


def serve(options: argparse.Namespace) -> None:
    """Serve TCP and UDP until Ctrl-C."""
    processes, hubs = options.processes, options.hubs
    listener = gp.listen((options.host, options.port), reuse_port=processes * hubs > 1)
    address = listener.getsockname()
    with listener, gp.Socket(listener.family, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(address)
        with gp.Group() as group:  # ends the datagrams' task, however the server ends
            group.spawn(echo_datagrams, datagrams)
            print(f"echo on {address[0]} port {address[1]}", flush=True)
            handler = partial(echo, silence=options.silence)
            gp.serve(handler, listener, processes=processes, hubs=hubs, grace=options.grace)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.echo", description="Echo server.")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=7777, help="0 takes a free one")
    parser.add_argument("--processes", type=int, default=1, help="for a Python with the GIL")
    parser.add_argument("--hubs", type=int, default=1, help="threads, for a Python without it")
    parser.add_argument("--silence", type=float, default=60.0, help="seconds")
    parser.add_argument("--grace", type=float, default=10.0, help="seconds to finish at Ctrl-C")
    options = parser.parse_args()
    gp.raise_nofile_limit()
    try:
        gp.run(serve, options, hubs=options.hubs)
    except KeyboardInterrupt:
        print()
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
