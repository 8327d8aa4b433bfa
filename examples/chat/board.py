"""Board: what each process of one server counts, so that any can answer for all.

Every process pins up a note once a second, in a folder that all have in common; the notes of those
that have ended are passed over. (Prometheus' own way for several processes is such a folder, too,
but counts in it all the time.)
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from .metrics import Numbers

SECONDS = 1.0
"""How old the others' numbers may be."""


class Board:
    """The notes in one folder; ``numbers`` are those of the calling process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def pin(self, numbers: Numbers) -> None:
        """Put this process's note in place of its last."""
        note = self._folder / str(os.getpid())
        draft = note.with_suffix(".new")
        draft.write_text(json.dumps(numbers))
        draft.replace(note)

    def read(self) -> dict[str, Numbers]:
        """The notes of the processes that are alive, by their pids."""
        notes = {note.name: note for note in sorted(self._folder.iterdir()) if not note.suffix}
        return {pid: json.loads(note.read_text()) for pid, note in notes.items() if is_alive(pid)}


def is_alive(pid: str) -> bool:
    """Whether there is such a process."""
    return Path(f"/proc/{pid}").exists()
