"""A connection watched by timers: a heartbeat, an idle limit, and a task that starts later.

    python -m examples.timers

A peer sends a few messages and then falls silent. The watcher stands in one select: on a message it
resets its idle timer, at each tick it sends a heartbeat, and when the idle timer fires it closes.
No task and no thread waits for any of the three times.
"""

from __future__ import annotations

import greenpump as gp

HEARTBEAT = 0.05
IDLE = 0.12


def talk(messages: gp.Channel[str], pauses: list[float]) -> None:
    """The peer: a message after each pause, then silence."""
    for number, pause in enumerate(pauses):
        gp.sleep(pause)
        messages.send(f"message {number}")


def watch(messages: gp.Channel[str]) -> list[str]:
    """What happened, until the peer was silent for too long."""
    log: list[str] = []
    heartbeat = gp.Ticker(HEARTBEAT)
    idle = gp.Timer(IDLE)
    while True:
        match gp.select(gp.receiving(messages), heartbeat, idle):
            case 0, message:
                log.append(message)
                idle.reset(IDLE)  # nothing of the old time is left in it
            case 1, _:
                log.append("heartbeat")
            case 2, _:
                log.append("closed")
                return log


def main() -> None:
    messages = gp.Channel[str]()
    gp.spawn(talk, messages, [0.02, 0.02, 0.02])
    report = gp.spawn_later(2 * HEARTBEAT, print, "(the server says: one connection is open)")
    never = gp.spawn_later(60, print, "never printed")
    print(*watch(messages), sep="\n")
    report.join()
    never.cancel()


if __name__ == "__main__":
    main()
