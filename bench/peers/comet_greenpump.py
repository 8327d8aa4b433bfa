"""greenpump: examples/chat as it is, its messages in memory; a subscriber holds no task."""

from __future__ import annotations

from bench.peers.chat_greenpump import run

__all__ = ["run"]
