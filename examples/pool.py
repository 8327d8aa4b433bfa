"""Which ports of a host take connections: a thousand attempts, fifty at a time.

    python -m examples.pool localhost 1-1024

``imap_unordered`` says what it finds as it finds it. The ports come from a generator, of which no
more is taken than there is room for; the loop that has found enough leaves, and what is still on
its way is cancelled with the block.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import greenpump as gp

AT_ONCE = 50
PATIENCE = 1.0


def try_port(host: str, port: int) -> int | None:
    """The port, if something listens there."""
    try:
        with gp.connect((host, port), timeout=PATIENCE):
            return port
    except OSError:
        return None


def open_ports(host: str, ports: Iterable[int], enough: int | None = None) -> Iterator[int]:
    """The ports that take connections, in the order of answering."""
    found = 0
    with gp.imap_unordered(lambda port: try_port(host, port), ports, limit=AT_ONCE) as answers:
        for port in answers:
            if port is not None:
                yield port
                found += 1
                if found == enough:
                    return


def main(host: str = "localhost", ports: str = "1-1024") -> None:
    first, _, last = ports.partition("-")
    for port in open_ports(host, range(int(first), int(last or first) + 1)):
        print(f"{host}:{port} is open")


if __name__ == "__main__":
    main(*sys.argv[1:])
