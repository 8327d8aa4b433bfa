"""Why a peer has no figures: not here, or gone wrong. Neither is ever skipped in silence."""

from __future__ import annotations


class MissingError(Exception):
    """A peer can't run here: `what` isn't installed; `install` is the command that would help."""

    def __init__(self, what: str, install: str) -> None:
        super().__init__(f"{what} ({install})")
        self.what = what
        self.install = install


class FailedError(Exception):
    """A peer crashed, hung or gave wrong results; `stderr` is the end of what it said."""

    def __init__(self, reason: str, stderr: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.stderr = stderr
