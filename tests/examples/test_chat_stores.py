"""The stores, all held to the same: memory, SQLite in a file, and a real Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import greenpump as gp
from examples.chat.message import Message, News, Notice, Position
from examples.chat.stores import Bounds, Store, StoreDown, open_store
from examples.chat.stores.sqlite import SqliteStore
from tests.conftest import require
from tests.examples.redis_server import RedisServer


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    require("redis-py", find_spec("redis"), "pip install redis")
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", "sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis")
        server.flush()
        return server.url
    return {"memory": "memory", "sqlite": f"sqlite:{tmp_path}/chat.db"}[request.param]


@contextmanager
def opened(url: str, **bounds: float) -> Iterator[Store]:
    store = open_store(url, Bounds(**bounds))  # type: ignore[arg-type]
    try:
        yield store
    finally:
        store.close()


def said(messages: list[Message]) -> list[tuple[int, str]]:
    return [(message.position.seq, message.msg) for message in messages]


class Listener:
    """What a feed brings, collected by a task of its own."""

    def __init__(self, store: Store) -> None:
        self.news: list[News] = []
        self._came = gp.Event()
        self._feed = store.follow()
        self._task = gp.spawn(self._listen)

    def _listen(self) -> None:
        with self._feed:
            for batch in self._feed:
                self.news += batch
                self._came.set()

    def until(self, count: int) -> list[News]:
        with gp.timeout(20):
            while len(self.news) < count:
                self._came.clear()
                self._came.wait()
        return self.news

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *exc: object) -> None:
        self._task.cancel()
        self._task.join()


def test_messages_are_numbered_and_kept(url: str) -> None:
    with opened(url) as store:
        start = store.position("room")
        assert start.seq == -1
        kept = [store.publish("room", "ann", text, "") for text in "abc"]
        assert [each.position for each in kept] == [Position(start.epoch, n) for n in range(3)]
        assert store.position("room") == Position(start.epoch, 2)
        assert store.since("room", -1, 10) == store.since("room", -9, 10) == kept
        assert store.since("room", 0, 10) == kept[1:]
        assert store.since("room", -1, 2) == kept[:2]
        assert store.since("room", -1, 0) == []
        assert store.since("room", 2, 10) == store.since("room", 2**53, 10) == []
        assert store.since("elsewhere", -1, 10) == []
        assert store.channels() in (1, 2)  # who only asks may make one, or not


def test_channels_have_nothing_to_do_with_each_other(url: str) -> None:
    names = ["a", "a:b", "history", "bus", "*", "a' OR 1=1 --", "ä😀"]
    with opened(url) as store:
        for name in names:
            store.publish(name, "ann", f"in {name}", "same")
        for name in names:
            assert said(store.since(name, -1, 10)) == [(0, f"in {name}")]
        assert len({store.position(name).epoch for name in names}) == len(names)


def test_any_text_comes_back_as_it_was(url: str) -> None:
    texts = ["it's", '"\\', "a\nb\tc", "\u2028", "😀", "'; DROP TABLE messages; --", "{{7*7}}"]
    with opened(url) as store:
        for text in texts:
            store.publish("room", text, text, "")
        back = store.since("room", -1, 10)
        assert [(each.sname, each.msg) for each in back] == [(text, text) for text in texts]


def test_what_is_said_twice_with_one_cid_is_said_once(url: str) -> None:
    with opened(url) as store, Listener(store) as listener:
        first = store.publish("room", "ann", "hi", "c1")
        again = store.publish("room", "ann", "hi", "c1")
        other = store.publish("room", "ann", "hi", "c2")
        assert again == first != other
        assert store.publish("elsewhere", "ann", "hi", "c1").position.epoch != first.position.epoch
        assert said(store.since("room", -1, 10)) == [(0, "hi"), (1, "hi")]
        assert said([each for each in listener.until(3) if isinstance(each, Message)]) == [
            (0, "hi"),
            (1, "hi"),
            (0, "hi"),
        ]


def test_what_was_said_once_is_known_when_it_is_no_longer_kept(url: str) -> None:
    with opened(url, messages=2) as store:
        first = store.publish("room", "ann", "hi", "c")
        last = [store.publish("room", "ann", "more", "") for _ in range(3)][-1]
        assert store.publish("room", "ann", "hi", "c").position == first.position
        assert store.position("room") == last.position


def test_many_at_once_are_all_kept_in_one_order(url: str) -> None:
    with opened(url) as store, Listener(store) as listener, gp.Group() as group:
        for number in range(200):
            group.spawn(store.publish, "room", "ann", str(number), f"c{number}")
            group.spawn(store.publish, "room", "ann", str(number), f"c{number}")
        news = listener.until(200)
        kept = store.since("room", -1, 500)
        assert news == kept
        assert [each.position.seq for each in kept] == list(range(200))
        assert sorted(int(each.msg) for each in kept) == list(range(200))


def test_feeds_get_what_is_published_and_told(url: str) -> None:
    with opened(url) as store:
        store.publish("room", "ann", "before", "")
        with Listener(store) as one, Listener(store) as two:
            kept = store.publish("room", "ann", "hi", "")
            sign = Notice("room", "SIGN", "bob", {"names": ["ä"]})
            store.tell(sign)
            assert one.until(2) == two.until(2) == [kept, sign]
        store.publish("room", "ann", "after", "")
        assert len(one.news) == 2


def test_what_came_while_nobody_looked_comes_at_once(url: str) -> None:
    with opened(url) as store, store.follow() as feed:
        kept = [store.publish("room", "ann", str(number), "") for number in range(5)]
        with gp.timeout(20):
            assert next(iter(feed)) == kept


def test_history_is_bounded_by_count(url: str) -> None:
    with opened(url, messages=3) as store:
        for number in range(10):
            store.publish("room", "ann", str(number), "")
        assert said(store.since("room", -1, 10)) == [(7, "7"), (8, "8"), (9, "9")]
        assert store.position("room").seq == 9


def test_history_is_bounded_by_size(url: str) -> None:
    with opened(url, characters=100) as store:
        for _ in range(10):
            store.publish("room", "ann", "x" * 30, "")
        assert [each.position.seq for each in store.since("room", -1, 10)] == [7, 8, 9]
        store.publish("room", "ann", "x" * 90, "")
        assert [each.position.seq for each in store.since("room", -1, 10)] == [10]


def test_history_is_bounded_by_age(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    with opened(url, seconds=100) as store:
        store.publish("room", "ann", "old", "")
        monkeypatch.setattr(time, "time", lambda: now + 60)
        store.publish("room", "ann", "newer", "")
        monkeypatch.setattr(time, "time", lambda: now + 120)
        assert [each.msg for each in store.since("room", -1, 10)] == ["newer"]
        store.publish("room", "ann", "newest", "")
        assert [each.msg for each in store.since("room", -1, 10)] == ["newer", "newest"]


@pytest.mark.parametrize("url", ["memory", "sqlite"], indirect=True)  # Redis has its own clock
def test_a_channel_that_is_long_unused_is_forgotten(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    with opened(url, seconds=100) as store:
        old = store.publish("old", "ann", "hi", "").position
        monkeypatch.setattr(time, "time", lambda: now + 60)
        new = store.publish("new", "ann", "hi", "").position
        monkeypatch.setattr(time, "time", lambda: now + 120)
        store.expire()
        assert store.channels() == 1
        assert store.position("new") == new
        assert store.position("old").epoch != old.epoch


def test_clearing_begins_a_new_epoch(url: str) -> None:
    with opened(url) as store, Listener(store) as listener:
        before = store.publish("room", "ann", "hi", "c1").position
        store.clear("room")
        after = store.publish("room", "ann", "hi", "c1").position
        assert (after.seq, after.epoch == before.epoch) == (0, False)
        assert said(store.since("room", -1, 10)) == [(0, "hi")]
        assert isinstance(listener.until(3)[1], Notice)


@pytest.mark.parametrize("url", ["sqlite", "redis"], indirect=True)
def test_what_is_kept_outlives_the_program(url: str) -> None:
    with opened(url) as store:
        kept = [store.publish("room", "ann", text, text) for text in "abc"]
    with opened(url) as store:
        assert store.since("room", -1, 10) == store.since("room", -9, 10) == kept
        assert store.publish("room", "ann", "a", "a") == kept[0]
        assert store.publish("room", "ann", "d", "d").position == Position(
            kept[0].position.epoch, 3
        )


def test_many_publishes_are_one_transaction(tmp_path: Path) -> None:
    with opened(f"sqlite:{tmp_path}/chat.db") as store:
        assert isinstance(store, SqliteStore)
        commits: list[str] = []

        def trace(statement: str) -> None:
            if statement == "COMMIT":
                commits.append(statement)

        store._write.set_trace_callback(trace)
        with gp.Group() as group:
            for number in range(1000):
                group.spawn(store.publish, "room", "ann", str(number), "")
        assert len(commits) <= 10


def test_a_full_disk_is_said_and_loses_nothing_else(tmp_path: Path) -> None:
    with opened(f"sqlite:{tmp_path}/chat.db") as store:
        assert isinstance(store, SqliteStore)
        kept = store.publish("room", "ann", "before", "")
        [pages] = store._write.execute("PRAGMA page_count").fetchone()
        store._write.execute(f"PRAGMA max_page_count = {pages}")

        def fill() -> None:
            for number in range(1000):
                store.publish("room", "ann", "x" * 500, str(number))

        with pytest.raises(StoreDown, match="full"):
            fill()
        store._write.execute("PRAGMA max_page_count = 1000000")
        after = store.publish("room", "ann", "after", "")
        back = store.since("room", -1, 1000)
        assert (back[0], back[-1]) == (kept, after)
        assert [each.position.seq for each in back] == list(range(len(back)))


def test_redis_may_go_and_come_back(redis: RedisServer) -> None:
    redis.flush()
    with opened(redis.url) as store:
        kept = store.publish("room", "ann", "before", "c1")
        feed = store.follow()
        redis.kill()
        with pytest.raises(StoreDown):
            store.publish("room", "ann", "lost", "c2")
        with pytest.raises(StoreDown), feed:
            list(feed)
        redis.start()
        assert store.publish("room", "ann", "before", "c1") == kept
        assert store.publish("room", "ann", "after", "c2").position.seq == 1
        assert said(store.since("room", -1, 10)) == [(0, "before"), (1, "after")]


def test_a_redis_that_has_forgotten_the_end_begins_an_epoch(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--save 3600 1") as redis, opened(redis.url) as store:
        kept = store.publish("room", "ann", "kept", "c1")
        redis.save()
        store.publish("room", "ann", "lost", "c2")
        with opened(redis.url) as other:
            assert other.position("room").seq == 1
            redis.kill()
            redis.start()
            after = store.publish("room", "ann", "after", "")
            assert after.position.epoch != kept.position.epoch
            assert after.position == other.position("room") == store.position("room")
            assert said(store.since("room", -1, 10)) == [(0, "kept"), (1, "after")]
            assert {each.position.epoch for each in store.since("room", -1, 10)} == {
                after.position.epoch
            }
            assert store.publish("room", "ann", "kept", "c1").position.seq == 0  # said once


@pytest.mark.parametrize(
    "entry", [{"by": "nobody"}, {"channel": b"\xff", "kind": "SIGN", "sname": "", "data": "{}"}]
)
def test_what_others_write_on_the_bus_stops_no_news(
    redis: RedisServer, entry: dict[Any, Any]
) -> None:
    from examples.chat.stores.redis_streams import BUS, RedisStore

    redis.flush()
    with opened(redis.url) as store:
        assert isinstance(store, RedisStore)
        with store.follow() as feed:
            store.redis.xadd(BUS, entry)
            with pytest.raises(StoreDown):
                next(iter(feed))
        message = store.publish("room", "ann", "hi", "")
        with Listener(store) as listener:
            after = store.publish("room", "ann", "more", "")
            assert listener.until(1) == [after]
            assert store.since("room", -1, 10) == [message, after]


def test_who_is_too_far_behind_what_redis_tells_is_told(redis: RedisServer) -> None:
    from examples.chat.stores.redis_streams import AT_ONCE, BUS, BUS_LENGTH, RedisStore

    redis.flush()
    with opened(redis.url) as store:
        assert isinstance(store, RedisStore)
        store.publish("room", "ann", "hi", "")
        with store.follow() as feed, store.redis.pipeline() as many:
            for _ in range(2 * BUS_LENGTH):
                many.xadd(BUS, {"channel": "room", "kind": "SIGN", "sname": "ann", "data": "{}"})
            many.execute()
            assert len(next(iter(feed))) == AT_ONCE  # all are there still
            store.redis.xtrim(BUS, BUS_LENGTH)
            with pytest.raises(StoreDown, match="too far behind"):
                next(iter(feed))


@pytest.mark.parametrize(
    "url", ["", "sqlite:", "postgres://x", "chat.db", "memory:", "rediss://x", "unix:///x"]
)
def test_what_is_no_store_is_named(url: str) -> None:
    with pytest.raises(ValueError, match="no such store"):
        open_store(url)
