"""A cache that nobody can stampede: what many want at once is loaded once.

    python -m examples.singleflight

Sixty requests for three users arrive together, and nothing is cached yet. One load for each user is
made, and all who asked get its result. One of them has no patience: it leaves, and the others don't
notice, although the load had been started for it.
"""

from __future__ import annotations

import greenpump as gp

SECONDS_A_LOAD = 0.05


class Profiles:
    """Profiles by user, from a slow place."""

    def __init__(self) -> None:
        self.loads = 0
        self._cache: dict[str, str] = {}
        self._loading = gp.Singleflight()

    def get(self, user: str) -> str:
        """The profile of ``user``; parks while it is loaded."""
        if user not in self._cache:
            self._cache[user] = self._loading.do(user, self._load, user)
        return self._cache[user]

    def _load(self, user: str) -> str:
        self.loads += 1
        gp.sleep(SECONDS_A_LOAD)
        return f"profile of {user}"


def impatient(profiles: Profiles, user: str) -> str:
    """Ask, but not for long."""
    with gp.move_on_after(SECONDS_A_LOAD / 5):
        return profiles.get(user)
    return "no time"


def main() -> None:
    profiles = Profiles()
    first = gp.spawn(impatient, profiles, "alice")
    tasks = [gp.spawn(profiles.get, ("alice", "bob", "carol")[n % 3]) for n in range(60)]
    print(f"the first to ask for alice: {first.result()}")
    answers = [task.result() for task in tasks]
    print(f"{len(answers)} answers, {len(set(answers))} different ones, {profiles.loads} loads")


if __name__ == "__main__":
    main()
