"""Jobs that need memory, as many at once as fit.

    python -m examples.semaphore

Each job takes its megabytes of the 100 there are before it starts, and gives them back. They start
in the order of coming: the large one in the middle isn't overtaken for ever by small ones.
"""

from __future__ import annotations

import greenpump as gp

MEGABYTES = 100


class Machine:
    """Runs jobs within its memory."""

    def __init__(self, megabytes: int) -> None:
        self.memory = gp.Semaphore(megabytes)
        self.log: list[str] = []

    def run(self, name: str, megabytes: int) -> None:
        """Run one job, once there is memory for it."""
        self.memory.acquire(megabytes)
        try:
            self.log.append(f"{name} starts with {megabytes} MB")
            gp.sleep(0.001 * megabytes)
            self.log.append(f"{name} ends")
        finally:
            self.memory.release(megabytes)


def main() -> None:
    machine = Machine(MEGABYTES)
    with gp.Group() as group:
        for name, megabytes in (("a", 60), ("b", 30), ("large", 100), ("c", 10), ("d", 20)):
            group.spawn(machine.run, name, megabytes)
    print(*machine.log, sep="\n")


if __name__ == "__main__":
    main()
