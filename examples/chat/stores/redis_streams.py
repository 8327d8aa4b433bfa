"""RedisStore: the history in Redis Streams, shared by any number of nodes.

For each channel Redis holds a hash (``epoch``, the ``next`` number, the ``size`` of all there was)
and a stream of messages, whose ids are their numbers. One more stream, the bus, gets all messages
and notices of all channels; each node reads it from the place where it has stopped. A message goes
into both in one script, which Redis runs as one step: it is kept and sent, or neither.

How safe a message is that was acknowledged is Redis' business: ``appendonly yes`` with
``appendfsync always`` loses none to a kill of Redis. With less, or after a failover, Redis comes
back as it was some time before. So each script is told how far the channel is known to have been:
when Redis is behind that, what it has goes on under a new epoch, and the clients are told.

redis-py does the protocol. Its connections are made on greenpump's sockets, so its calls park.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

import greenpump as gp

from ..message import Message, News, Notice, Position
from .store import CID_SECONDS, Bounds, StoreDown

BUS = "chat:bus"
BUS_LENGTH = 10_000
"""About how many news a node may be behind; one that is more behind asks the channels."""
AT_ONCE = 500
"""The most news that are read at once."""
KNOWN = 20_000
"""The channels whose newest messages are remembered, the least recently used first to go."""
CONNECTIONS = 32
"""How many calls may be on their way to Redis at once; further ones wait."""
BLOCK_SECONDS = 5.0
"""How long Redis may leave a reader of the bus without an answer."""
ANSWER_SECONDS = 5.0
FAILURES = redis.RedisError, OSError, UnicodeDecodeError
"""What a call raises: Redis' refusals, the network's, and text that isn't the chat's."""

EPOCH = """
    local channel, history = unpack(KEYS)
    local known_epoch, known_seq, epoch = unpack(ARGV)
    if redis.call('HSETNX', channel, 'epoch', epoch) == 1 then
        -- A life is as long as the history; when Redis forgets its end, it has a second epoch.
        redis.call('HSET', channel, 'life', epoch)
        redis.call('DEL', history)
    else
        local last = (redis.call('HGET', channel, 'next') or 0) - 1
        if redis.call('HGET', channel, 'epoch') == known_epoch and last < tonumber(known_seq) then
            redis.call('HSET', channel, 'epoch', epoch)
        end
        epoch = redis.call('HGET', channel, 'epoch')
    end
"""
PUBLISH = (
    EPOCH
    + """
    local said, bus = unpack(KEYS, 3)
    local name, sname, msg, now, cid = unpack(ARGV, 4, 8)
    local length, messages, characters, seconds, cid_seconds, bus_length = unpack(ARGV, 9)
    local life = redis.call('HGET', channel, 'life') or epoch
    if cid ~= '' then
        -- What a life that is over knew of a cid is over, too.
        local kept = redis.call('HMGET', said, 'life', 'seq')
        if kept[1] == life then return {epoch, kept[2], 0} end
    end
    local seq = redis.call('HINCRBY', channel, 'next', 1) - 1
    local size = redis.call('HINCRBY', channel, 'size', length)
    local message = {'channel', name, 'epoch', epoch, 'seq', seq, 'sname', sname, 'msg', msg,
        'time', now, 'cid', cid, 'size', size - length}
    redis.call('XADD', history, (seq + 1) .. '-0', unpack(message))
    redis.call('XADD', bus, 'MAXLEN', '~', bus_length, '*', unpack(message))
    if cid ~= '' then
        redis.call('HSET', said, 'life', life, 'seq', seq)
        redis.call('EXPIRE', said, cid_seconds)
    end
    while redis.call('XLEN', history) > 1 do
        local oldest = redis.call('XRANGE', history, '-', '+', 'COUNT', 1)[1]
        local field = {}
        for i = 1, #oldest[2], 2 do field[oldest[2][i]] = oldest[2][i + 1] end
        if redis.call('XLEN', history) <= tonumber(messages)
            and tonumber(field.size) >= size - characters
            and tonumber(field.time) >= now - seconds then
            break
        end
        redis.call('XDEL', history, oldest[1])
    end
    redis.call('EXPIRE', channel, seconds)
    redis.call('EXPIRE', history, seconds)
    return {epoch, seq, 1}
"""
)
POSITION = (
    EPOCH
    + """
    redis.call('EXPIRE', channel, ARGV[4])
    return {epoch, redis.call('HGET', channel, 'next')}
"""
)


class GreenConnection(redis.Connection):
    """redis-py's connection on a greenpump socket: what waits for Redis parks its task."""

    def _connect(self) -> gp.Socket:
        sock = gp.connect((self.host, self.port), timeout=ANSWER_SECONDS)
        sock.settimeout(self.socket_timeout)
        return sock


class RedisStore:
    """See ``Store``."""

    shared = True

    def __init__(self, url: str, bounds: Bounds) -> None:
        self._bounds = bounds
        pool = redis.ConnectionPool.from_url(
            url,
            connection_class=GreenConnection,
            socket_timeout=BLOCK_SECONDS + ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),  # who asks decides whether to ask again
            decode_responses=True,
            protocol=2,
        )
        self.redis = redis.Redis(connection_pool=pool)
        self._publish = self.redis.register_script(PUBLISH)
        self._position = self.redis.register_script(POSITION)
        self._calls = gp.Semaphore(CONNECTIONS)
        self._known: OrderedDict[str, Position] = OrderedDict()
        self._lock = Lock()  # for other hubs' threads; nothing parks while it is held

    def publish(self, channel: str, sname: str, msg: str, cid: str) -> Message:
        now, bounds = int(time.time()), self._bounds
        keys = [*_keys(channel), f"chat:said:{cid}:{channel}", BUS]
        values = [*self._epochs(channel), channel, sname, msg, now, cid, len(sname) + len(msg)]
        values += [bounds.messages, bounds.characters, int(bounds.seconds), CID_SECONDS, BUS_LENGTH]
        epoch, seq, is_new = self._call(self._publish, keys, values)
        position = Position(epoch, int(seq))
        self.know(channel, position)
        kept = [] if is_new else self.since(channel, position.seq - 1, 1)
        if kept and kept[0].position == position:
            return kept[0]
        return Message(channel, position, sname, msg, now, cid)

    def position(self, channel: str) -> Position:
        values = [*self._epochs(channel), int(self._bounds.seconds)]
        epoch, following = self._call(self._position, _keys(channel), values)
        position = Position(epoch, int(following or 0) - 1)
        self.know(channel, position)
        return position

    def since(self, channel: str, seq: int, limit: int) -> list[Message]:
        if not limit:
            return []  # which Redis can't be asked for
        key, history = _keys(channel)

        def read() -> Any:
            with self.redis.pipeline() as both:  # at one moment
                both.hget(key, "epoch")
                both.xrange(history, f"{max(seq, -1) + 2}-0", "+", limit)  # ids begin at 1
                return both.execute()

        epoch, found = self._call(read)
        oldest = time.time() - self._bounds.seconds
        # Messages from before a loss are of the epoch that is now.
        messages = [_message({**fields, "epoch": epoch}) for _, fields in found if epoch]
        return [message for message in messages if message.time >= oldest]

    def tell(self, notice: Notice) -> None:
        fields = {"channel": notice.channel, "kind": notice.kind, "sname": notice.sname}
        fields["data"] = json.dumps(notice.data)
        self._call(self.redis.xadd, BUS, fields, maxlen=BUS_LENGTH)

    def clear(self, channel: str) -> None:
        self._call(self.redis.delete, *_keys(channel))
        self.tell(Notice(channel, "CLEAR"))

    def channels(self) -> int:
        return len(self._call(lambda: list(self.redis.scan_iter(_keys("*")[0], count=1000))))

    def follow(self) -> RedisFeed:
        return RedisFeed(self)

    def expire(self) -> None:
        pass  # Redis does: EXPIRE

    def close(self) -> None:
        self.redis.connection_pool.disconnect()

    def know(self, channel: str, position: Position) -> None:
        """Remember that Redis had this message: should it be without it one day, it has lost it."""
        with self._lock:
            known = self._known.get(channel)
            if known is None or known.epoch != position.epoch or known.seq < position.seq:
                self._known[channel] = position
            self._known.move_to_end(channel)
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)

    def _epochs(self, channel: str) -> tuple[str, int, str]:
        """What EPOCH is told: how far the channel was, and the name of a new epoch."""
        return *self._known.get(channel, Position("", -1)), secrets.token_hex(4)

    def _call(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        with self._calls:
            try:
                return fn(*args, **kwargs)
            except FAILURES as error:
                raise StoreDown(f"Redis: {error}") from error


class RedisFeed:
    """See ``Feed``: a reader of the bus, on a connection of its own."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        newest = store._call(store.redis.xrevrange, BUS, count=1)
        self._last: str = newest[0][0] if newest else "0-0"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def __iter__(self) -> Iterator[Sequence[News]]:
        client, block = self._store.redis, int(BLOCK_SECONDS * 1000)
        while True:
            try:
                found: Any = client.xread({BUS: self._last}, count=AT_ONCE, block=block)
                entries = found[0][1] if found else []
                # What Redis had to drop has more behind it than is read at once.
                oldest: Any = client.xrange(BUS, count=1) if len(entries) == AT_ONCE else []
                news = [_news(fields) for _, fields in entries]
            except FAILURES as error:
                raise StoreDown(f"Redis: {error}") from error
            except (KeyError, ValueError) as error:
                # The next feed begins behind it.
                raise StoreDown(f"on the bus is something of somebody else's: {error}") from error
            if oldest and _number(oldest[0][0]) > _number(self._last) > (0, 0):
                raise StoreDown("this node fell too far behind")
            if entries:
                self._last = entries[-1][0]
                for each in news:
                    if isinstance(each, Message):
                        self._store.know(each.channel, each.position)
                yield news


def _number(entry: str) -> tuple[int, ...]:
    """An id of a stream, to be compared."""
    return tuple(map(int, entry.split("-")))


def _news(fields: dict[str, str]) -> News:
    if "seq" in fields:
        return _message(fields)
    data = json.loads(fields["data"])
    return Notice(fields["channel"], fields["kind"], fields["sname"], data)


def _message(fields: dict[str, str]) -> Message:
    channel, sname, msg, cid = (fields[key] for key in ("channel", "sname", "msg", "cid"))
    position = Position(fields["epoch"], int(fields["seq"]))
    return Message(channel, position, sname, msg, int(fields["time"]), cid)


def _keys(channel: str) -> tuple[str, str]:
    """Those of the channel's hash and of its history."""
    return f"chat:channel:{channel}", f"chat:history:{channel}"
