"""Connect at the first use: whoever comes first does it, the others wait for it.

    python -m examples.once

The first request is cancelled while it connects: that counts for nothing, the next one connects
anew. What failed for good, as reading a broken configuration, fails the same way each time.
"""

from __future__ import annotations

import json

import greenpump as gp

attempts = 0


@gp.once_value
def database() -> str:
    """The connection, which takes a while to make."""
    global attempts
    attempts += 1
    gp.sleep(0.01)
    return f"connection {attempts}"


@gp.once_value
def settings() -> dict[str, str]:
    """What a file would say, if it weren't broken."""
    parsed: dict[str, str] = json.loads("{")
    return parsed


greeting = gp.Once()


def request(number: int) -> str:
    """Serve a request: greet the log once, and use the database."""
    greeting.do(print, "the first request has come")
    return f"request {number} by {database()}"


def main() -> None:
    requests = [gp.spawn(request, number) for number in range(4)]
    gp.yield_now()
    requests[0].cancel("the client has hung up")
    for task in requests:
        task.join()
    print(*(task.result() for task in requests if not task.cancelled), sep="\n")
    for _ in range(2):
        try:
            settings()
        except json.JSONDecodeError as error:
            print(f"settings: {error.msg}")


if __name__ == "__main__":
    main()
