"""LocalFeeds: news inside one process, from its store to the nodes of its hubs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import greenpump as gp

from ..message import News
from .store import StoreDown

BACKLOG = 10_000
"""Batches that a feed may be behind. One that is more behind ends: its node then asks the store."""
AT_ONCE = 100
"""Batches that are handed over as one: what came meanwhile costs each reader one write."""


class LocalFeed:
    """See ``Feed``."""

    def __init__(self, feeds: LocalFeeds) -> None:
        self._feeds = feeds
        self.channel: gp.Channel[Sequence[News]] = gp.Channel(BACKLOG)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._feeds.remove(self)

    def __iter__(self) -> Iterator[Sequence[News]]:
        for news in self.channel:
            together = list(news)
            for _ in range(min(len(self.channel), AT_ONCE - 1)):
                together += self.channel.recv()  # at hand: this is the only one to take it
            yield together
        raise StoreDown("this feed fell too far behind")


class LocalFeeds:
    """All feeds of a store in this process. Nothing here parks."""

    def __init__(self) -> None:
        self._feeds: tuple[LocalFeed, ...] = ()

    def add(self) -> LocalFeed:
        feed = LocalFeed(self)
        self._feeds = (*self._feeds, feed)
        return feed

    def remove(self, feed: LocalFeed) -> None:
        self._feeds = tuple(each for each in self._feeds if each is not feed)

    def send(self, news: Sequence[News]) -> None:
        """To be called in the order in which the news came about."""
        for feed in self._feeds:
            if not feed.channel.try_send(news):
                self.remove(feed)
                feed.channel.close()
