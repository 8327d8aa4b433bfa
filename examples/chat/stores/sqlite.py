"""SqliteStore: the history in one file, which survives any kill of the process.

A message is safe when its transaction is on the disk, and the disk takes about as long for one
message as for five hundred. So what is published while a transaction is under way waits for the
next one, and all of it goes in together (group commit).

SQLite blocks its thread: it is called through ``Pool``s of one thread each, one to write and one to
read. In WAL mode the reader never waits for the writer.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import greenpump as gp
from greenpump.offload import Pool

from ..message import Message, Notice, Position
from .local import LocalFeed, LocalFeeds
from .store import CID_SECONDS, Bounds, StoreDown

P = ParamSpec("P")
T = TypeVar("T")

GROUP = 500
"""The most messages that one transaction takes."""

SCHEMA = """
    CREATE TABLE IF NOT EXISTS channels (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        epoch TEXT NOT NULL,
        next INTEGER NOT NULL,   -- the number of the next message
        size INTEGER NOT NULL,   -- of all messages that there ever were
        used REAL NOT NULL
    );
    CREATE TABLE IF NOT EXISTS messages (
        channel INTEGER NOT NULL REFERENCES channels ON DELETE CASCADE,
        seq INTEGER NOT NULL,
        sname TEXT NOT NULL,
        msg TEXT NOT NULL,
        time INTEGER NOT NULL,
        cid TEXT,
        size INTEGER NOT NULL,   -- of the channel before this message
        PRIMARY KEY (channel, seq)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS said (  -- what may have been trimmed, and is not to be said again
        channel INTEGER NOT NULL REFERENCES channels ON DELETE CASCADE,
        cid TEXT NOT NULL,
        seq INTEGER NOT NULL,
        time INTEGER NOT NULL,
        PRIMARY KEY (channel, cid)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS said_at ON said (time);
"""


class _Publish:
    """A message that waits for the disk."""

    def __init__(self, channel: str, sname: str, msg: str, cid: str) -> None:
        self.channel = channel
        self.sname = sname
        self.msg = msg
        self.cid = cid
        self.outcome: gp.Channel[Message | StoreDown] = gp.Channel(1)


class SqliteStore:
    """See ``Store``."""

    shared = False

    def __init__(self, path: str, bounds: Bounds) -> None:
        self._bounds = bounds
        self._feeds = LocalFeeds()
        self._writer_thread = Pool("chat-write", max_threads=1)
        self._reader_thread = Pool("chat-read", max_threads=1)
        self._write = self._write_call(self._connect, path)
        self._read = self._read_call(self._connect, path)
        self._queue: gp.Channel[_Publish] = gp.Channel(GROUP)
        self._writer = gp.spawn(self._write_all)

    def publish(self, channel: str, sname: str, msg: str, cid: str) -> Message:
        publish = _Publish(channel, sname, msg, cid)
        try:
            self._queue.send(publish)
        except gp.ChannelClosed:
            raise StoreDown("the store is closed") from None
        outcome = publish.outcome.recv()
        if isinstance(outcome, StoreDown):
            raise outcome
        return outcome

    def position(self, channel: str) -> Position:
        found = self._read_call(self._find, self._read, channel)
        if found is None:
            found = self._write_call(self._make, channel)
        _, epoch, following, _ = found
        return Position(epoch, following - 1)

    def since(self, channel: str, seq: int, limit: int) -> list[Message]:
        return self._read_call(self._select, channel, seq, limit)

    def tell(self, notice: Notice) -> None:
        self._feeds.send([notice])

    def clear(self, channel: str) -> None:
        self._write_call(self._delete, "DELETE FROM channels WHERE name = ?", channel)
        self.tell(Notice(channel, "CLEAR"))

    def channels(self) -> int:
        [count] = self._read_call(
            lambda: self._read.execute("SELECT count(*) FROM channels").fetchone()
        )
        return int(count)

    def follow(self) -> LocalFeed:
        return self._feeds.add()

    def expire(self) -> None:
        now = time.time()
        before = now - self._bounds.seconds
        self._write_call(self._delete, "DELETE FROM channels WHERE used < ?", before)
        self._write_call(self._delete, "DELETE FROM said WHERE time < ?", now - CID_SECONDS)

    def close(self) -> None:
        self._queue.close()
        self._writer.join()
        self._write_call(self._write.close)
        self._read_call(self._read.close)
        for pool in (self._writer_thread, self._reader_thread):
            pool.retire()

    def _write_call(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return self._writer_thread.call(fn, *args, **kwargs)
        except sqlite3.Error as error:
            raise StoreDown(f"SQLite: {error}") from error

    def _read_call(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return self._reader_thread.call(fn, *args, **kwargs)
        except sqlite3.Error as error:
            raise StoreDown(f"SQLite: {error}") from error

    def _write_all(self) -> None:
        """The writer: one transaction after the other, each with all that came meanwhile."""
        for first in self._queue:
            group = [first]
            while len(group) < GROUP and (more := self._queue.try_recv(None)) is not None:
                group.append(more)
            try:
                messages, fresh = self._write_call(self._insert, group)
            except StoreDown as error:
                for publish in group:
                    publish.outcome.send(error)
                continue
            for publish, message in zip(group, messages, strict=True):
                publish.outcome.send(message)
            if fresh:
                self._feeds.send(fresh)

    # -- in the pools' threads: they may block, and must not park ----------------------------------

    def _connect(self, path: str) -> sqlite3.Connection:
        # The pool may replace its thread, but there is never more than one.
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # a commit has reached the disk
        db.execute("PRAGMA foreign_keys = ON")
        db.executescript(SCHEMA)
        return db

    def _insert(self, group: list[_Publish]) -> tuple[list[Message], list[Message]]:
        """The messages, as they were kept, and those of them that are new."""
        messages: list[Message] = []
        fresh: list[Message] = []
        touched: dict[str, tuple[int, int, int]] = {}
        with _transaction(self._write) as db:
            for publish in group:
                channel, epoch, seq, size = self._find(db, publish.channel) or self._make(
                    publish.channel
                )
                if publish.cid and (kept := self._by_cid(publish, channel, epoch)):
                    messages.append(kept)
                    continue
                now = time.time()
                name, sname, msg, cid = publish.channel, publish.sname, publish.msg, publish.cid
                message = Message(name, Position(epoch, seq), sname, msg, int(now), cid)
                db.execute(
                    "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (channel, seq, sname, msg, message.time, cid or None, size),
                )
                if cid:
                    said = channel, cid, seq, message.time
                    db.execute("INSERT INTO said VALUES (?, ?, ?, ?)", said)
                size += len(sname) + len(msg)
                db.execute(
                    "UPDATE channels SET next = ?, size = ?, used = ? WHERE id = ?",
                    (seq + 1, size, now, channel),
                )
                touched[publish.channel] = channel, seq, size
                messages.append(message)
                fresh.append(message)
            self._trim(db, touched)
        return messages, fresh

    def _trim(self, db: sqlite3.Connection, touched: dict[str, tuple[int, int, int]]) -> None:
        bounds = self._bounds
        db.executemany(
            "DELETE FROM messages WHERE channel = ? AND (seq <= ? OR size < ? OR time < ?)",
            [
                (
                    channel,
                    seq - bounds.messages,
                    size - bounds.characters,
                    time.time() - bounds.seconds,
                )
                for channel, seq, size in touched.values()
            ],
        )

    def _by_cid(self, publish: _Publish, channel: int, epoch: str) -> Message | None:
        row = self._write.execute(
            "SELECT said.seq, coalesce(sname, ?), coalesce(msg, ?), said.time, said.cid"
            " FROM said LEFT JOIN messages USING (channel, seq) WHERE channel = ? AND said.cid = ?",
            (publish.sname, publish.msg, channel, publish.cid),
        ).fetchone()
        return None if row is None else _message(publish.channel, epoch, row)

    def _find(self, db: sqlite3.Connection, name: str) -> tuple[int, str, int, int] | None:
        found: tuple[int, str, int, int] | None = db.execute(
            "SELECT id, epoch, next, size FROM channels WHERE name = ?", (name,)
        ).fetchone()
        return found

    def _make(self, name: str) -> tuple[int, str, int, int]:
        self._write.execute(
            "INSERT OR IGNORE INTO channels (name, epoch, next, size, used) VALUES (?, ?, 0, 0, ?)",
            (name, secrets.token_hex(4), time.time()),
        )
        found = self._find(self._write, name)
        assert found is not None
        return found

    def _select(self, channel: str, seq: int, limit: int) -> list[Message]:
        rows = self._read.execute(
            "SELECT epoch, seq, sname, msg, time, cid FROM messages"
            " JOIN channels ON channels.id = messages.channel"
            " WHERE name = ? AND seq > ? AND time >= ? ORDER BY seq LIMIT ?",
            (channel, seq, time.time() - self._bounds.seconds, limit),
        )
        return [_message(channel, epoch, row) for epoch, *row in rows]

    def _delete(self, statement: str, *values: object) -> None:
        self._write.execute(statement, values)


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    finally:
        if db.in_transaction:  # SQLite has rolled back by itself when the disk is full
            db.execute("ROLLBACK")


def _message(channel: str, epoch: str, row: list[object]) -> Message:
    seq, sname, msg, when, cid = row
    assert isinstance(seq, int)
    assert isinstance(when, int)
    return Message(channel, Position(epoch, seq), str(sname), str(msg), when, str(cid or ""))
