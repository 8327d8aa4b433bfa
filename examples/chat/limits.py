"""Limits: how much of everything there may be. What is beyond gets a 429, or is cut off."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import greenpump as gp

from .http import HttpError

CLIENTS = 10_000
"""The clients whose rates are remembered."""


class TooMany(HttpError):
    """There is no room for what was asked; there may be later."""

    def __init__(self, reason: str, seconds: int = 1) -> None:
        super().__init__(429, reason, {"Retry-After": str(seconds)})


@dataclass(frozen=True)
class Limits:
    """What one node takes. Those of history are the store's (``Bounds``)."""

    channels: int = 10_000
    subscribers: int = 100_000
    """In one channel."""
    subscriptions: int = 50
    """Of one WebSocket."""
    message: int = 512
    name: int = 64
    """Characters."""
    rate: float = 20.0
    burst: int = 60
    """Messages a second that one client's address may publish, and how many at once."""
    poll_seconds: float = 30.0
    """How long a poll waits for news, how often a silent connection is given a sign of life, and
    how long a client may take to acknowledge what it was sent."""


class Rates:
    """How much each client publishes."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._clients: OrderedDict[str, gp.RateLimiter] = OrderedDict()

    def check(self, client: str) -> None:
        """Count a message. Doesn't park. Raises TooMany."""
        rate = self._clients.get(client)
        if rate is None:
            rate = self._clients[client] = gp.RateLimiter(self._limits.rate, self._limits.burst)
            if len(self._clients) > CLIENTS:
                self._clients.popitem(last=False)
        self._clients.move_to_end(client)
        if not rate.allow():
            raise TooMany(f"more than {self._limits.rate:g} messages a second")
