"""A routing table that many look things up in, and that is now and then replaced in steps.

    python -m examples.rwmutex

Lookups take several steps, and run side by side. A change waits until those that are under way have
ended, and holds later ones back, so nobody sees half of it and it never waits for long.
"""

from __future__ import annotations

import greenpump as gp


class Routes:
    """Two tables that belong together: names of services, and the addresses of each."""

    def __init__(self) -> None:
        self.lock = gp.RWMutex()
        self.version = 0
        self.aliases = {"shop": "web"}
        self.addresses = {"web": "10.0.0.0"}
        self.readers = self.most_readers = 0

    def lookup(self, name: str) -> str:
        """The address of what ``name`` stands for."""
        with self.lock.read():
            self.readers += 1
            self.most_readers = max(self.most_readers, self.readers)
            service = self.aliases[name]
            gp.yield_now()  # a step that takes a while; a change here would make the next one fail
            address = self.addresses[service]
            self.readers -= 1
        return address

    def rename(self) -> None:
        """Rename the service, and move it."""
        with self.lock.write():
            self.version += 1
            self.aliases["shop"] = f"web{self.version}"
            gp.yield_now()
            self.addresses = {f"web{self.version}": f"10.0.0.{self.version}"}


def main() -> None:
    routes = Routes()
    with gp.Group() as group:
        lookups = []
        for number in range(100):
            lookups.append(group.spawn(routes.lookup, "shop"))
            if number % 25 == 24:
                group.spawn(routes.rename)
    print(f"addresses seen: {', '.join(sorted({task.result() for task in lookups}))}")
    print(f"lookups at once: {routes.most_readers}")


if __name__ == "__main__":
    main()
