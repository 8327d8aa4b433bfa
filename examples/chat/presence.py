"""Presence: who is in a channel, on this node and on all others.

A name is present while somebody listens under it, and for some seconds after: who reconnects has
not left. Each node tells the others whom it has, when that changes and every ten seconds; what a
node was last heard to have is forgotten when it falls silent.

In a crowd nobody reads who comes and goes, and telling each of ten thousand of each other's arrival
would be a hundred million messages. So names are told up to ``CROWD``; beyond, only their number.
"""

from __future__ import annotations

CROWD = 100
GRACE_SECONDS = 10
TELL_SECONDS = 10
FORGET_SECONDS = 25


class Presence:
    """The names in one channel. Times are in seconds of the caller's clock; nothing parks."""

    def __init__(self) -> None:
        self._here: dict[str, int] = {}  # how many listen under this name
        self._leaving: dict[str, float] = {}  # when it counts as gone
        self._others: dict[str, tuple[int, frozenset[str], float]] = {}  # by node: until when
        self._told: frozenset[str] | int = frozenset()
        self._told_others_at = 0.0
        self._changed = False
        self._changed_here = False

    def enter(self, sname: str) -> None:
        self._here[sname] = self._here.get(sname, 0) + 1
        if self._leaving.pop(sname, None) is None and self._here[sname] == 1:
            self._changed = self._changed_here = True

    def leave(self, sname: str, now: float, grace: float = GRACE_SECONDS) -> None:
        self._here[sname] -= 1
        if not self._here[sname]:
            del self._here[sname]
            self._leaving[sname] = now + grace

    def heard(self, node: str, count: int, names: list[str], now: float) -> None:
        """Another node has told whom it has."""
        before = self._others.get(node)
        self._others[node] = count, frozenset(names), now + FORGET_SECONDS
        self._changed |= before is None or before[:2] != self._others[node][:2]

    def here(self) -> tuple[int, list[str]]:
        """How many are present on this node, and their names, unless they are a crowd."""
        names = self._here.keys() | self._leaving.keys()
        return len(names), sorted(names) if len(names) <= CROWD else []

    def everybody(self) -> tuple[int, list[str]]:
        """How many are present on all nodes, and their names, unless they are a crowd."""
        count, here = self.here()
        names = set(here).union(*(names for _, names, _ in self._others.values()))
        count = max(len(names), count + sum(count for count, *_ in self._others.values()))
        if count > CROWD:
            return count, []
        return len(names), sorted(names)

    def news_for_others(self, now: float) -> bool:
        """Whether it is time to tell the other nodes; asked once a second."""
        present = bool(self._here or self._leaving)
        due = self._changed_here or (present and now >= self._told_others_at + TELL_SECONDS)
        if due:
            self._told_others_at, self._changed_here = now, False
        return due

    def turn(self, now: float) -> tuple[list[str], list[str]] | int | None:
        """Once a second: who has come and who has left; of a crowd their number; None: no news."""
        for sname in [sname for sname, until in self._leaving.items() if until <= now]:
            del self._leaving[sname]
            self._changed = self._changed_here = True
        for node in [node for node, (*_, until) in self._others.items() if until <= now]:
            del self._others[node]
            self._changed = True
        if not self._changed:
            return None
        self._changed = False
        count, names = self.everybody()
        before, self._told = self._told, frozenset(names) if count <= CROWD else count
        if isinstance(before, int) or isinstance(self._told, int):
            return count
        if before == self._told:
            return None
        return sorted(self._told - before), sorted(before - self._told)

    def __bool__(self) -> bool:
        """Whether anything is left to be minded."""
        return bool(self._here or self._leaving or self._others or self._changed)
