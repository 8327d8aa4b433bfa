"""Node: one hub's share of the chat. It reads the store's news and hands them to its subscribers.

All of a node belongs to one hub, so its state needs no locks. Nodes know of each other only through
the store: another hub, another process and another machine are all the same to it.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import greenpump as gp

from .channel import RECENT, Channel
from .limits import Limits, TooMany
from .message import Batch, Item, Message, News, Notice, Position
from .metrics import Counters
from .resting import Wheel
from .stores import Store, StoreDown
from .subscriber import Subscriber

BATCH = 200
"""The most messages that are sent at once; the rest comes with the next batch."""
AT_ONCE = 16
"""Channels that the store is asked, or told, of at once: it may be far away."""
RETRY_SECONDS = 0.5
EXPIRE_SECONDS = 60

log = logging.getLogger("chat")


class Node:
    """Channels, as far as somebody on this hub has asked for them, and who listens to them."""

    def __init__(
        self, store: Store, limits: Limits, talk: Callable[[gp.Socket, str], object], *, alone: bool
    ) -> None:
        self.name = secrets.token_hex(4)
        self.hub = gp.current().hub
        self.store = store
        self.limits = limits
        self.talk = talk
        """Serve an HTTP connection whose client has sent something."""
        self.wheel = Wheel()
        self.counters = Counters()
        self.channels: OrderedDict[str, Channel] = OrderedDict()  # the least recently used first
        self.seconds = 0
        self.talking = 0
        """How many requests are under way."""
        self._alone = alone
        tasks = self._read_news, self._mind_time, self._mind_store
        self._tasks = [gp.spawn(task) for task in tasks]

    # -- for subscribers ---------------------------------------------------------------------------

    def channel(self, name: str) -> Channel:
        """The channel of that name; parks when it is not at hand. Raises StoreDown, TooMany."""
        channel = self.channels.get(name)
        if channel is None:
            if len(self.channels) >= self.limits.channels:
                self._forget_one()
            channel = self.channels[name] = Channel(name)
        self.channels.move_to_end(name)
        if not channel.position.epoch:
            self.refresh(channel)
        return channel

    def since(self, channel: Channel, position: Position) -> list[Item]:
        """What came after ``position``, a batch at most; empty: nothing, as far as this node knows.

        It begins with a GAP where that is not all. Parks; raises StoreDown.
        """
        epoch, seq = position
        if epoch == channel.position.epoch and seq > channel.position.seq:
            self.refresh(channel)  # the client has it from another node, which is ahead
        why = ""
        if epoch != channel.position.epoch or seq > channel.position.seq:
            seq, why = -1, "epoch"
        messages = channel.recent(seq, BATCH)
        if messages is None:
            found = self.store.since(channel.name, seq, BATCH)
            # What this node has not read yet comes when it does.
            messages = [each for each in found if is_known(channel, each)]
            if not messages or messages[0].position.seq > seq + 1:
                why = why or "trimmed"
        items = [message.item for message in messages]
        if why:
            epoch, seq = channel.position
            start = messages[0].position.seq - 1 if messages else seq
            items.insert(0, channel.gap(Position(epoch, start), why))
        return items

    def before(self, channel: Channel, seq: int, limit: int) -> list[Item]:
        """The last ``limit`` messages before ``seq``. Parks; raises StoreDown."""
        seq = min(seq, channel.position.seq + 1)
        found = self.store.since(channel.name, max(seq - limit, 0) - 1, limit)
        return [each.item for each in found if is_known(channel, each) and each.position.seq < seq]

    def join(self, channel: Channel, subscriber: Subscriber, sname: str) -> None:
        channel.subscribers[subscriber] = sname
        if sname:
            channel.presence.enter(sname)
        self.counters.subscribers += 1

    def leave(self, channel: Channel, subscriber: Subscriber) -> None:
        sname = channel.leave(subscriber)
        if sname is not None:
            self.counters.subscribers -= 1
        if sname:
            channel.presence.leave(sname, self.seconds, subscriber.PRESENT_SECONDS)

    def publish(self, channel: str, sname: str, msg: str, cid: str = "") -> Message:
        """Say something: parks until the store has it safe. Raises StoreDown."""
        start = time.monotonic()
        message = self.store.publish(channel, sname, msg, cid)
        self.counters.published += 1
        self.counters.publish_seconds += time.monotonic() - start
        return message

    # -- news --------------------------------------------------------------------------------------

    def _read_news(self) -> None:
        """The task that reads the store's feed, for ever."""
        while True:
            try:
                with self.store.follow() as feed:
                    # What came before the feed began, or while there was none.
                    gp.map(self.refresh, list(self.channels.values()), limit=AT_ONCE)
                    for news in feed:
                        self.take(news)
            except StoreDown as error:
                log.warning("news stop for a moment: %s", error)
                self.counters.store_errors += 1
                gp.sleep(RETRY_SECONDS * (0.5 + random.random()))

    def take(self, news: Sequence[News]) -> None:
        """Hand news to those who listen; parks to let others run, or to ask for what is missing."""
        by_channel: dict[str, list[News]] = {}
        for each in news:
            by_channel.setdefault(each.channel, []).append(each)
        for name, some in by_channel.items():
            channel = self.channels.get(name)
            if channel is not None:
                with channel.reading:
                    self._take(channel, some)

    def _take(self, channel: Channel, news: list[News]) -> None:
        items: list[Item] = []
        for each in news:
            if isinstance(each, Notice):
                items += self._notice(channel, each)
                continue
            epoch, seq = channel.position
            if each.position.epoch != epoch or each.position.seq > seq + 1:
                self._send(channel, items)
                items = []
                self._refresh(channel)
            elif channel.advance(each):
                items.append(each.item)
        self._send(channel, items)

    def _notice(self, channel: Channel, notice: Notice) -> list[Item]:
        data: dict[str, Any] = notice.data
        if notice.kind == "SIGN":
            return [channel.item("SIGN", msg="SIGN", sname=notice.sname)]
        if notice.kind == "HERE":
            if data["node"] != self.name:
                channel.presence.heard(data["node"], data["count"], data["names"], self.seconds)
        elif notice.kind == "CLEAR":
            self._refresh(channel)
        elif notice.kind == "CLOSE":
            for subscriber in list(channel.subscribers):
                subscriber.on_drain()
        return []

    def _send(self, channel: Channel, items: Sequence[Item], *, passing: bool = False) -> None:
        if items:
            batch = Batch(items, passing=passing)
            self.counters.delivered += len(items) * channel.send(batch)

    def refresh(self, channel: Channel) -> None:
        """Read a channel from the store up to its newest message. Parks; raises StoreDown."""
        with channel.reading:
            self._refresh(channel)

    def _refresh(self, channel: Channel) -> None:
        newest = self.store.position(channel.name)
        if newest.epoch != channel.position.epoch:
            is_new = not channel.position.epoch
            recent = self.store.since(channel.name, newest.seq - RECENT, RECENT)
            recent = [each for each in recent if each.position.epoch == newest.epoch]
            channel.begin(recent[-1].position if recent else newest, recent)
            if not is_new:
                start = recent[0].position.seq - 1 if recent else newest.seq
                gap = channel.gap(Position(newest.epoch, start), "epoch")
                self._send(channel, [gap, *(each.item for each in recent)])
            return
        while channel.position.seq < newest.seq:
            found = self.store.since(channel.name, channel.position.seq, BATCH)
            messages = [each for each in found if each.position.epoch == newest.epoch]
            items = []
            if not messages or messages[0].position.seq > channel.position.seq + 1:
                start = messages[0].position.seq - 1 if messages else newest.seq
                channel.begin(Position(newest.epoch, start), [])
                items.append(channel.gap(channel.position, "trimmed"))
            items += [each.item for each in messages if channel.advance(each)]
            self._send(channel, items)

    # -- time --------------------------------------------------------------------------------------

    def _mind_time(self) -> None:
        """The task that turns the wheel, once a second, however slow the store is."""
        while True:
            gp.sleep(1)
            self.seconds += 1
            self.wheel.turn()

    def _mind_store(self) -> None:
        """The task that tells who is here, and has the store forget what is old."""
        expired_at = 0
        while True:
            gp.sleep(1)
            try:
                here: list[Notice] = []
                for channel in list(self.channels.values()):
                    if channel.presence:
                        here += self._mind_presence(channel)
                gp.map(self.store.tell, here, limit=AT_ONCE)
                if self.seconds >= expired_at + EXPIRE_SECONDS:
                    expired_at = self.seconds
                    self.store.expire()
            except StoreDown as error:
                log.warning("%s", error)
                self.counters.store_errors += 1

    def _mind_presence(self, channel: Channel) -> list[Notice]:
        """Tell subscribers who has come and left; returns what to tell the other nodes."""
        presence = channel.presence
        news = presence.turn(self.seconds)
        if news is not None:
            count, _ = presence.everybody()
            with channel.reading:
                if isinstance(news, int):
                    items = [channel.item("COUNT", count=count)]
                else:
                    came, left = news
                    items = [channel.item("JOIN", sname=each, count=count) for each in came]
                    items += [channel.item("LEAVE", sname=each, count=count) for each in left]
                self._send(channel, items, passing=True)
        if self._alone or not presence.news_for_others(self.seconds):
            return []
        count, names = presence.here()
        data = {"node": self.name, "count": count, "names": names}
        return [Notice(channel.name, "HERE", data=data)]

    # -- room, and the end -------------------------------------------------------------------------

    def _forget_one(self) -> None:
        """Make room for another channel: nobody listens to the one that goes."""
        for name, channel in self.channels.items():
            if not channel.subscribers and not channel.reading.locked():
                del self.channels[name]
                return
        raise TooMany("too many channels are in use")

    def drain(self) -> None:
        """Tell all clients that this server ends. Those that must still say something may."""
        for resting in self.wheel:
            resting.on_drain()

    def close(self) -> None:
        """End the node's tasks and its connections; parks."""
        for task in self._tasks:
            task.cancel("the chat ends")
        for task in self._tasks:
            task.join()
        for resting in self.wheel:
            resting.end()


def is_known(channel: Channel, message: Message) -> bool:
    """Whether this node has read so far; what it has not is sent when it does."""
    epoch, seq = message.position
    return epoch == channel.position.epoch and seq <= channel.position.seq
