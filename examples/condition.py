"""A warehouse: deliveries wait for room, orders wait until there is enough of what they want.

    python -m examples.condition

Who waits says for what, by a predicate, and looks again whenever something has changed. An order
that waits for too long gives up, and takes nothing.
"""

from __future__ import annotations

from collections import Counter

import greenpump as gp


class Warehouse:
    """So many things fit in, of whatever kinds."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.stock: Counter[str] = Counter()
        self.changed = gp.Condition()

    def deliver(self, kind: str, count: int) -> None:
        """Put them in; waits for room."""
        with self.changed:
            self.changed.wait_for(lambda: self.stock.total() + count <= self.room)
            self.stock[kind] += count
            self.changed.notify_all()

    def order(self, kind: str, count: int, patience: float | None = None) -> bool:
        """Take them out; waits until there are enough, for at most ``patience`` seconds."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.stock[kind] >= count, patience):
                return False
            self.stock[kind] -= count
            self.changed.notify_all()
            return True


def main() -> None:
    warehouse = Warehouse(10)
    with gp.Group() as group:
        bolts = group.spawn(warehouse.order, "bolt", 12)  # more than fit in at once: in vain
        nuts = [group.spawn(warehouse.order, "nut", 4) for _ in range(3)]
        for _ in range(6):
            group.spawn(warehouse.deliver, "nut", 2)
        gone = group.spawn(warehouse.order, "washer", 1, 0.01)
        print(f"nuts: {[task.result() for task in nuts]}")
        print(f"a washer: {gone.result()}")
        bolts.cancel()
    print(f"left: {warehouse.stock.total()}")


if __name__ == "__main__":
    main()
