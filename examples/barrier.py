"""The game of life, each row a task: all compute, then all show, and so on.

    python -m examples.barrier

No row may change before its neighbours have looked at it, and none may look before they have
changed: two barriers a generation. The last to come prints it, as the barrier's action.
"""

from __future__ import annotations

import greenpump as gp

GLIDER = """\
.#......
..#.....
###.....
........
........
........
"""


class Life:
    """A world that wraps around, its rows computed by tasks."""

    def __init__(self, picture: str) -> None:
        self.rows = [[cell == "#" for cell in line] for line in picture.splitlines()]
        self.shown: list[str] = []
        self.computed = gp.Barrier(len(self.rows))
        self.changed = gp.Barrier(len(self.rows), action=self.show)

    def show(self) -> None:
        """Note what the world looks like."""
        lines = ["".join(".#"[cell] for cell in row) for row in self.rows]
        self.shown.append("\n".join(lines) + "\n")

    def alive_next(self, y: int, x: int) -> bool:
        """Whether a cell lives in the next generation."""
        height, width = len(self.rows), len(self.rows[0])
        around = sum(
            self.rows[(y + dy) % height][(x + dx) % width]
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
            if dx or dy
        )
        return around == 3 or (around == 2 and self.rows[y][x])

    def live(self, y: int, generations: int) -> None:
        """The life of a row."""
        for _ in range(generations):
            row = [self.alive_next(y, x) for x in range(len(self.rows[y]))]
            self.computed.wait()
            self.rows[y] = row
            self.changed.wait()


def main() -> None:
    life = Life(GLIDER)
    with gp.Group() as group:
        for y in range(len(life.rows)):
            group.spawn(life.live, y, 4)
    print(*life.shown, sep="\n", end="")


if __name__ == "__main__":
    main()
