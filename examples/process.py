"""Programs side by side: at most so many at once, each with a time limit, talked to by pipes.

    python -m examples.process

``check`` is what a build does with its linters and tests. ``Calculator`` keeps one program running
and asks it question after question.
"""

from __future__ import annotations

import sys
from subprocess import PIPE, STDOUT
from types import TracebackType

import greenpump as gp
from greenpump.process import Popen, run


def check(commands: list[str], limit: int = 4, seconds: float = 2.0) -> dict[str, str]:
    """Run shell commands, ``limit`` of them at once; what became of each."""
    verdicts: dict[str, str] = {}

    def one(command: str) -> None:
        verdicts[command] = "too slow"
        # Whoever is too slow gets SIGTERM, and SIGKILL five seconds later.
        with gp.move_on_after(seconds):
            done = run(command, shell=True, stdout=PIPE, stderr=STDOUT, text=True)
            verdicts[command] = done.stdout.strip() if not done.returncode else "failed"

    with gp.Group(limit=limit) as group:
        for command in commands:
            group.spawn(one, command)
    return verdicts


class Calculator:
    """A program that stays: a line in, a line out."""

    SOURCE = "import sys\nfor line in sys.stdin: print(eval(line), flush=True)"

    def __init__(self) -> None:
        self._child = Popen([sys.executable, "-c", self.SOURCE], stdin=PIPE, stdout=PIPE, text=True)

    def ask(self, question: str) -> str:
        """The answer to one line; TimeoutError if it takes longer than a minute."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        with gp.timeout(60):
            self._child.stdin.write(f"{question}\n")
            answer: str = self._child.stdout.readline()
        return answer.rstrip("\n")

    def __enter__(self) -> Calculator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._child.__exit__(kind, error, traceback)  # closes its stdin, at which it ends


def main() -> None:
    """Show both."""
    commands = ["echo hello", "sleep 0.2; echo later", "exit 3", "sleep 1000"]
    for command, verdict in check(commands, seconds=1.0).items():
        print(f"{command:24} {verdict}")
    with Calculator() as calculator:
        print("6 * 7 =", calculator.ask("6 * 7"))
        print("2 ** 64 =", calculator.ask("2 ** 64"))


if __name__ == "__main__":
    gp.run(main)
