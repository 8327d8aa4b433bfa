"""The load generator of chats (`c/fanout.c`): one message to many subscribers, all verified."""

from __future__ import annotations

from dataclasses import dataclass

from bench.build import binary
from bench.load import Load


@dataclass(frozen=True)
class Fanout(Load):
    """`connections` subscribers of one channel, and clients that publish in it.

    A publisher's next message follows when all subscribers have got the last, or the oldest of
    those that are under way. `messages` are deliveries: one message to a thousand subscribers is a
    thousand.
    """

    publishers: int = 1
    """0, for `held`: somebody else says the `text` of 1, 2, …, each after a `tell`."""
    window: int = 1
    """Messages that each of them has under way at once, over its one connection."""
    transport: str = "websocket"
    """How subscribers get them; "events" and "poll" are for `held`."""
    patience: float = 10.0
    """Seconds in which all have to have a message."""

    def text(self, number: int) -> str:
        """What subscribers expect as the so-many-th message, where somebody else says it."""
        return f"#{number:08x} ".ljust(self.size, "x")

    def command(self) -> list[str]:
        program = str(binary("fanout"))
        chat = ["--publishers", str(self.publishers), "--window", str(self.window)]
        chat += ["--transport", self.transport, "--patience", str(self.patience)]
        return [program, *chat, *self.options()]
