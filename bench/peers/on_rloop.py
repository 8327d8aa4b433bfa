"""Runs a coroutine on rloop, as asyncio.run would; not a peer itself."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import rloop

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=rloop.new_event_loop) as runner:
        return runner.run(main)
