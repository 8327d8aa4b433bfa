"""Starts chats fast, for tests that kill many: all is imported once, and each is a fork of this.

It reads the arguments of a chat from each line of its stdin, as JSON, and starts it. The chat says
its pid on the same stdout, and where it is.
"""

from __future__ import annotations

import json
import os
import signal
import sys


def main() -> None:
    from examples.chat.__main__ import main as chat
    from examples.chat.stores import redis_streams, sqlite  # noqa: F401 - imported by need

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the dead
    while line := sys.stdin.readline():
        if not os.fork():
            print(os.getpid(), flush=True)
            sys.argv[1:] = json.loads(line)
            status = chat()
            print(f"it ended: {status}", flush=True)
            os._exit(status)


if __name__ == "__main__":
    main()
