"""A server with a hang and a hog in it, and what greenpump says about both.

    python -m examples.debugging

Two tasks wait for each other's end, one waits for a client that says nothing, and one computes
without ever waiting. docs/debugging.md shows what it prints.
"""

from __future__ import annotations

import sys
import time

import greenpump as gp


def handle(conn: gp.Socket) -> None:
    """Echo what the client says; this one says nothing."""
    with conn:
        while data := conn.recv(4096):
            conn.sendall(data)


def wait_for(names: dict[str, gp.Task[None]], name: str) -> None:
    """Wait until the task of that name has ended."""
    names[name].join()


def compute(seen: list[gp.Hold]) -> None:
    """Keep the hub until the watchdog has noticed: no wait in here."""
    give_up = time.monotonic() + 30
    while not seen and time.monotonic() < give_up:
        sum(range(10_000))


def main() -> None:
    client, conn = gp.socketpair()
    handler = gp.spawn(handle, conn)
    names: dict[str, gp.Task[None]] = {}
    names["egg"] = gp.spawn(wait_for, names, "hen")
    names["hen"] = gp.spawn(wait_for, names, "egg")

    seen: list[gp.Hold] = []
    with gp.watchdog(0.02, seen.append):
        gp.spawn(compute, seen).join()
    print("--- the watchdog's report")
    print(*seen[:1], sep="\n")

    print("\n--- dump")
    gp.dump(sys.stdout)

    print("\n--- stats")
    print(gp.stats())

    print("\n--- the deadlock report, once nothing is left that could wake anybody")
    client.close()
    handler.join()
    try:
        names["hen"].join()
    except gp.Deadlock as report:
        print(report)
    for task in names.values():
        task.cancel()
        task.join()


if __name__ == "__main__":
    main()
