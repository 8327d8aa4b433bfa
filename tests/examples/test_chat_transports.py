"""One stream of messages by four ways: long poll, JSONP, server-sent events, WebSocket."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import pytest

import greenpump as gp
from examples.chat import resting
from examples.chat.channel import Channel
from examples.chat.chat import Chat
from examples.chat.limits import Limits
from examples.chat.message import Batch, Message, Notice, Position
from examples.chat.resting import KeptAlive
from examples.chat.stores import Bounds
from examples.chat.transports.events import EventStream
from greenpump.net.tls import wrap_socket
from greenpump.testing import virtual_clock, wait_all_parked
from tests.conftest import require
from tests.examples.chat_client import Client, Events, Pair, Talker, chatting, opened, waiting
from tests.net.tls.certificates import Certificates


@pytest.fixture
def chat() -> Iterator[Chat]:
    with opened() as chat:
        yield chat


@pytest.fixture(params=["plain", "tls"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Pair:
    """Makes connections, over TLS or not."""
    if request.param == "plain":
        return gp.socketpair
    require("the openssl command", shutil.which("openssl"), "apt-get install openssl")
    certificates = Certificates(tmp_path)
    server, client = certificates.server(), certificates.client()

    def connect() -> tuple[gp.Socket, gp.Socket]:
        theirs, ours = gp.socketpair()
        accepting = gp.spawn(wrap_socket, theirs, server, server_side=True)
        wrapped = wrap_socket(ours, client, server_hostname="localhost")
        return accepting.result(), wrapped

    return connect


def say(chat: Chat, *msgs: str, channel: str = "room") -> str:
    """Publish; returns the id of the last one."""
    for msg in msgs:
        message = chat.node.publish(channel, "bob", msg)
    return str(message.position)


Read = Callable[[int], list[dict[str, Any]]]


def by_poll(client: Client, **fields: object) -> Read:
    """Reads a channel by one poll after the other."""

    def read(count: int) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        while len(items) < count:
            items += client.get(f"/subscribe?{urlencode({**fields, 'sname': 'ann'})}").json
            fields["since"] = items[-1]["id"]
        return items

    if "since" not in fields:
        fields["since"] = client.get(f"/presence?{urlencode(fields)}").json[0]["id"]
    return read


def by_events(client: Client, **fields: object) -> Read:
    events = Events(client, f"/stream?{urlencode({**fields, 'sname': 'ann'})}")
    return lambda count: [events.item() for _ in range(count)]


def by_websocket(client: Client, **fields: object) -> Read:
    talker = Talker(client, f"/socket?{urlencode({**fields, 'sname': 'ann'})}")
    assert talker.item()["type"] == "HELLO"
    return lambda count: [talker.item() for _ in range(count)]


each_way = pytest.mark.parametrize("way", [by_poll, by_events, by_websocket])


def said(items: list[dict[str, Any]]) -> list[str]:
    return [item["msg"] if item["type"] == "MSG" else item["type"] for item in items]


# -- what all have in common -----------------------------------------------------------------------


@each_way
def test_what_is_said_arrives_in_order(chat: Chat, way: Callable[..., Read]) -> None:
    with chatting(chat) as [ann]:
        say(chat, "before")
        read = way(ann, channel="room")
        say(chat, *map(str, range(300)))
        assert said(read(300)) == [str(number) for number in range(300)]


@each_way
def test_who_comes_back_goes_on_where_it_was(chat: Chat, way: Callable[..., Read]) -> None:
    with chatting(chat, 2) as (ann, again):
        start = say(chat, "0")
        [one, two] = way(ann, channel="room", since=(say(chat, "1", "2"), start)[1])(2)
        ann.conn.close()
        say(chat, "3", "4")
        assert said(way(again, channel="room", since=two["id"])(2)) == ["3", "4"]
        assert said([one, two]) == ["1", "2"]


@each_way
def test_a_long_absence_is_made_up_for_in_batches(chat: Chat, way: Callable[..., Read]) -> None:
    start = say(chat, "start")
    say(chat, *map(str, range(900)))
    with chatting(chat) as [ann]:
        read = way(ann, channel="room", since=start)
        assert said(read(900)) == [str(number) for number in range(900)]
        say(chat, "and on")
        assert said(read(1)) == ["and on"]


@each_way
def test_what_is_no_longer_there_is_told(way: Callable[..., Read]) -> None:
    with opened(bounds=Bounds(messages=3)) as chat, chatting(chat) as [ann]:
        start = say(chat, "start")
        say(chat, *"abcdef")
        [gap, *items] = way(ann, channel="room", since=start)(4)
        assert (gap["type"], gap["why"], gap["seqid"]) == ("GAP", "trimmed", 3)
        assert said(items) == ["d", "e", "f"]


@each_way
@pytest.mark.parametrize("since", ["ab12:5", "ab12:-1", "ab12:99999"])
def test_another_epoch_is_told(chat: Chat, way: Callable[..., Read], since: str) -> None:
    say(chat, "a", "b")
    with chatting(chat) as [ann]:
        [gap, *items] = way(ann, channel="room", since=since)(3)
        assert (gap["type"], gap["why"]) == ("GAP", "epoch")
        assert said(items) == ["a", "b"]


@each_way
def test_a_position_from_the_future_is_told(chat: Chat, way: Callable[..., Read]) -> None:
    epoch = say(chat, "a").split(":")[0]
    with chatting(chat) as [ann]:
        assert said(way(ann, channel="room", since=f"{epoch}:7")(2)) == ["GAP", "a"]


def test_who_leaves_and_comes_back_while_something_is_sent_has_it_already(chat: Chat) -> None:
    node, channel = chat.node, chat.node.channel("room")
    read: list[str] = []

    class Somebody(EventStream):
        def deliver(self, channel: Channel, batch: Batch) -> None:
            read.append(self.client)
            if self.client == "first":  # between two bursts
                node.leave(channel, last)
                last.catch_up(channel, Position(channel.position.epoch, -1))
                node.join(channel, last, "")

        def write_batch(self, batch: Batch) -> None:
            read.append(f"{self.client} by itself")

    with chatting(chat) as [client]:
        first, last = (Somebody(node, client.conn, name) for name in ("first", "last"))
        for each in (first, last):
            node.join(channel, each, "")
        say(chat, "hi")
        wait_all_parked()
        assert read == ["first", "last by itself"]
        say(chat, "more")
        wait_all_parked()
        assert read[2:] == ["first", "last by itself"]
        for each in (first, last):
            node.leave(channel, each)


@each_way
def test_clearing_is_told_to_those_who_listen(chat: Chat, way: Callable[..., Read]) -> None:
    with chatting(chat) as [ann]:
        read = way(ann, channel="room", since=say(chat, "a"))
        if way is by_poll:
            chat.store.clear("room")
        else:
            wait_all_parked()
            chat.store.clear("room")
            wait_all_parked()
        say(chat, "b")
        assert said(read(2)) == ["GAP", "b"]


@each_way
def test_an_idle_subscriber_holds_no_task(chat: Chat, way: Callable[..., Read]) -> None:
    with chatting(chat, 5) as clients:
        say(chat, "so that the node and its two tasks are there")
        wait_all_parked()
        before = tasks()
        for client in clients:
            if way is by_poll:
                client.ask("/subscribe?channel=room&sname=ann&seqid=1")
            else:
                way(client, channel="room")
        wait_all_parked()
        assert waiting(chat) == 5
        assert tasks() == before
        say(chat, "hi")


def tasks() -> int:
    return gp.stats().hubs[0].parked


@each_way
@virtual_clock()
def test_who_hangs_up_is_forgotten_at_once(chat: Chat, way: Callable[..., Read]) -> None:
    with chatting(chat, 2) as (ann, bob):
        for client in (ann, bob):
            if way is by_poll:
                client.ask("/subscribe?channel=room&sname=ann&seqid=0")
            else:
                way(client, channel="room")
        wait_all_parked()
        assert waiting(chat) == 2
        ann.conn.close()
        wait_all_parked()
        assert waiting(chat) == 1
        say(chat, "hi")


@pytest.mark.parametrize("way", [by_events, by_websocket])  # a poll is sent one answer at most
def test_one_that_does_not_read_is_cut_off_and_delays_nobody(
    chat: Chat, way: Callable[..., Read], pair: Pair
) -> None:
    with chatting(chat, 2, pair) as (slow, quick):
        way(slow, channel="room")
        read = way(quick, channel="room")
        big = "x" * 500
        for number in range(2000):
            say(chat, big)
            if number % 100 == 99:
                assert len(read(100)) == 100
            if not chat.node.counters.subscribers > 1:
                break
        assert chat.node.counters.cut_off == 1
        with pytest.raises(ConnectionError):
            slow.until(b"there is no such thing")


@virtual_clock()
def test_one_that_stalls_is_cut_off_after_a_while(chat: Chat, pair: Pair) -> None:
    with chatting(chat, pair=pair) as [slow]:
        Events(slow, "/stream?channel=room")
        while not any(each.backlog for each in chat.node.wheel):
            say(chat, "x" * 500)
            wait_all_parked()
        gp.sleep(resting.STALL_SECONDS + 1)
        assert chat.node.counters.cut_off == 1
        assert waiting(chat) == 0


@virtual_clock()
def test_a_backlog_is_sent_when_the_client_reads_again(chat: Chat, pair: Pair) -> None:
    with chatting(chat, pair=pair) as [slow]:
        events = Events(slow, "/stream?channel=room")
        count = 0
        while not any(each.backlog for each in chat.node.wheel):
            say(chat, str(count).ljust(500, "x"))
            wait_all_parked()
            count += 1
        say(chat, "last")
        got = [events.item()["msg"].rstrip("x") for _ in range(count + 1)]
        assert got == [*map(str, range(count)), "last"]
        wait_all_parked()
        assert not any(each.backlog for each in chat.node.wheel)
        say(chat, "on")
        assert events.item()["msg"] == "on"


def test_a_silent_connection_is_closed_after_a_while(chat: Chat) -> None:
    with virtual_clock() as clock, chatting(chat, 2) as (never, once):
        once.get("/stats")
        start = clock.now()
        for client in (never, once):
            assert client.ended()
            assert abs(clock.now() - start - KeptAlive.SECONDS) <= 2


@virtual_clock()
def test_an_answered_poll_without_a_next_one_is_closed_after_a_while(chat: Chat) -> None:
    with chatting(chat) as [ann]:
        ann.ask("/subscribe?channel=room&sname=ann&seqid=0")
        wait_all_parked()
        say(chat, "hi")
        assert said(ann.response().json) == ["hi"]
        assert ann.ended()


# -- WebSocket alone -------------------------------------------------------------------------------


def test_a_websocket_publishes(chat: Chat) -> None:
    with chatting(chat, 2) as (one, two):
        ann = Talker(one, "/socket?channel=room&sname=ann")
        bob = Talker(two, "/socket?channel=room&sname=bob")
        for talker in (ann, bob):
            assert talker.opening.status == 101
            assert talker.item()["type"] == "HELLO"
        ann.publish("hi", cid="c1")
        ann.publish("hi", cid="c1")
        ann.publish("there", cid="c2")
        got = [ann.item() for _ in range(5)]
        acks = [item for item in got if item["type"] == "publish"]
        assert [(item["cid"], item["seqid"]) for item in acks] == [("c1", 0), ("c1", 0), ("c2", 1)]
        assert [bob.item()["msg"] for _ in range(2)] == ["hi", "there"]


def test_one_websocket_listens_to_many_channels(chat: Chat) -> None:
    with chatting(chat) as [one]:
        say(chat, "before", channel="b")
        ann = Talker(one, "/socket")
        ann.say(type="subscribe", channel="a", sname="ann")
        ann.say(type="subscribe", channel="b", last=10)
        assert [(item["type"], item["channel"]) for item in (ann.item() for _ in range(3))] == [
            ("HELLO", "a"),
            ("HELLO", "b"),
            ("MSG", "b"),
        ]
        say(chat, "in a", channel="a")
        say(chat, "in b", channel="b")
        assert [ann.item()["msg"] for _ in range(2)] == ["in a", "in b"]
        ann.say(type="unsubscribe", channel="a")
        assert ann.pong(b"done") == b"done"
        assert waiting(chat) == 1
        say(chat, "in a", channel="a")
        say(chat, "in b", channel="b")
        assert ann.item()["channel"] == "b"


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ({"type": "publish", "channel": "a", "sname": "b"}, "400"),
        ({"type": "publish", "channel": "a", "sname": "b", "msg": "x" * 513}, "400"),
        ({"type": "publish", "channel": "a", "sname": "b", "msg": "x", "cid": "a b"}, "400"),
        ({"type": "publish", "channel": "a", "sname": "b", "msg": "x", "cid": 5}, "400"),
        ({"type": "publish", "channel": ["a"], "sname": "b", "msg": "x"}, "400"),
        ({"type": "subscribe", "channel": "a", "since": 5}, "400"),
        ({"type": "subscribe", "channel": "a", "since": "x"}, "400"),
        ({"type": "subscribe", "channel": "a", "last": -1}, "400"),
        ({"type": "subscribe", "channel": "room"}, "409"),
        ({"type": "unsubscribe"}, "400"),
        ({"type": "dance"}, "400"),
        ({}, "400"),
    ],
)
def test_a_wrong_message_is_answered_and_harms_nothing(
    chat: Chat, content: dict[str, Any], status: str
) -> None:
    with chatting(chat) as [one]:
        ann = Talker(one, "/socket?channel=room&sname=ann")
        assert ann.item()["type"] == "HELLO"
        ann.say(**content)
        answer = ann.item()
        assert (answer["type"], answer["cid"]) == (status, content.get("cid"))
        say(chat, "hi")
        assert ann.item()["msg"] == "hi"


def test_too_many_channels_on_one_websocket() -> None:
    with opened(limits=Limits(subscriptions=2)) as chat, chatting(chat) as [one]:
        ann = Talker(one, "/socket")
        for name in "abc":
            ann.say(type="subscribe", channel=name)
        assert [ann.item()["type"] for _ in range(3)] == ["HELLO", "HELLO", "429"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("", 426),
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n", 426),
        ("Connection: Upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Version: 13\r\n", 426),
        (
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            426,
        ),
    ],
)
def test_what_does_not_begin_a_websocket(chat: Chat, headers: str, status: int) -> None:
    with chatting(chat) as [one]:
        response = one.get("/socket?channel=room", headers=headers)
        assert (response.status, response.headers["Sec-WebSocket-Version"]) == (status, "13")


@virtual_clock()
def test_a_websocket_that_is_gone_is_noticed(chat: Chat) -> None:
    with chatting(chat, 2) as (gone, there):
        for client in (gone, there):
            Talker(client, "/socket?channel=room&sname=ann")
        for _ in range(3):
            gp.sleep(Limits.poll_seconds)
            if waiting(chat) == 2:
                there.send(PONG)
        assert waiting(chat) == 1


def test_a_websocket_that_waits_for_the_store_is_not_taken_for_gone(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = chat.store.publish

    def slow(*message: str) -> Message:
        gp.sleep(4 * Limits.poll_seconds)
        return publish(*message)

    monkeypatch.setattr(chat.store, "publish", slow)
    with virtual_clock(), chatting(chat) as [client]:
        ann = Talker(client, "/socket")
        ann.publish("hi")
        assert ann.item()["type"] == "publish"


def test_a_pong_in_the_midst_of_a_message_counts(chat: Chat) -> None:
    with virtual_clock(), chatting(chat) as [client]:
        Talker(client, "/socket?channel=room&sname=ann")
        gp.sleep(Limits.poll_seconds - 1)
        client.send(bytes([0x01, 0x81, 0, 0, 0, 0]) + b"{")
        gp.sleep(2)  # it is asked whether it is there
        client.send(PONG + bytes([0x80, 0x81, 0, 0, 0, 0]) + b"}")
        gp.sleep(Limits.poll_seconds + 2)
        assert waiting(chat) == 1


PONG = bytes([0x8A, 0x80, 0, 0, 0, 0])


@virtual_clock()
def test_an_event_stream_gets_a_sign_of_life(chat: Chat) -> None:
    with chatting(chat) as [ann]:
        Events(ann, "/stream?channel=room")
        assert ann.until(b"\n\n") == b":\n\n"


def test_last_event_id_counts_more_than_the_url(chat: Chat) -> None:
    start = say(chat, "a")
    last = say(chat, "b")
    say(chat, "c")
    with chatting(chat) as [ann]:
        events = Events(
            ann, f"/stream?channel=room&since={start}", headers=f"Last-Event-ID: {last}\r\n"
        )
        assert events.item()["msg"] == "c"


# -- questions -------------------------------------------------------------------------------------


def test_history_goes_backwards(chat: Chat) -> None:
    say(chat, *map(str, range(20)))
    with chatting(chat) as [ann]:
        target = "/history?channel=room&limit=5&before="
        assert said(ann.get(f"{target}20").json) == ["15", "16", "17", "18", "19"]
        assert said(ann.get(f"{target}3").json) == ["0", "1", "2"]
        assert ann.get(f"{target}0").json == []
        assert said(ann.get(f"{target}{2**53}").json) == ["15", "16", "17", "18", "19"]


def test_unread_messages_are_counted(chat: Chat) -> None:
    first = say(chat, "0")
    say(chat, "1", "2")
    with chatting(chat) as [ann]:
        assert ann.get(f"/unread?channel=room&since={first}").json[0]["count"] == 2
        assert ann.get("/unread?channel=room&since=ab:1").json[0]["count"] == 3
        assert ann.get("/unread?channel=elsewhere").json[0]["count"] == 0


# -- presence --------------------------------------------------------------------------------------


@virtual_clock()
def test_who_comes_and_goes_is_told(chat: Chat) -> None:
    with chatting(chat, 3) as (one, two, three):
        ann = Talker(one, "/socket?channel=room&sname=ann")
        assert ann.any_item()["names"] == []
        assert [ann.any_item()[key] for key in ("type",)] == ["JOIN"]
        Events(two, "/stream?channel=room&sname=bob")
        came = ann.any_item()
        assert (came["type"], came["sname"], came["count"]) == ("JOIN", "bob", 2)
        assert three.get("/presence?channel=room").json[0]["names"] == ["ann", "bob"]
        two.conn.close()
        left = ann.any_item()
        assert (left["type"], left["sname"], left["count"]) == ("LEAVE", "bob", 1)


@virtual_clock()
def test_who_comes_back_soon_has_not_left(chat: Chat) -> None:
    with chatting(chat, 3) as (one, two, again):
        ann = Talker(one, "/socket?channel=room&sname=ann")
        Events(two, "/stream?channel=room&sname=bob")
        gp.sleep(3)
        two.conn.close()
        gp.sleep(3)
        Events(again, "/stream?channel=room&sname=bob")
        gp.sleep(20)
        say(chat, "end")
        kinds = []
        while (item := ann.any_item())["type"] != "MSG":
            kinds.append(item["type"])
        assert sorted(kinds) == ["HELLO", "JOIN", "JOIN"]


@virtual_clock()
def test_a_poller_is_present_between_its_polls(chat: Chat) -> None:
    with chatting(chat, 2) as (one, two):
        for _ in range(3):
            one.ask("/subscribe?channel=room&sname=ann&seqid=0")
            one.response()
            gp.sleep(10)
            assert two.get("/presence?channel=room").json[0]["names"] == ["ann"]
        gp.sleep(50)
        assert two.get("/presence?channel=room").json[0]["names"] == []


# -- several nodes ---------------------------------------------------------------------------------


@virtual_clock()
def test_nodes_share_messages_signs_and_presence() -> None:
    with opened(alone=False) as chat:
        other = Chat(chat.store, alone=False)
        with chatting(chat) as [one], chatting(other) as [two]:
            ann = Talker(one, "/socket?channel=room&sname=ann")
            bob = Talker(two, "/socket?channel=room&sname=bob")
            assert ann.item()["type"] == bob.item()["type"] == "HELLO"
            ann.publish("hi", cid="c")
            assert bob.item()["msg"] == "hi"
            chat.store.tell(Notice("room", "SIGN", "cat"))
            assert bob.item()["sname"] == "cat"
            gp.sleep(15)
            for node in (chat.node, other.node):
                assert node.channel("room").presence.everybody() == (2, ["ann", "bob"])
        other.node.close()


def test_a_node_that_finds_another_epoch_says_where_it_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with opened() as chat, chatting(chat) as [ann]:
        say(chat, "a")
        read = by_events(ann, channel="room")
        position = chat.store.position

        def late(channel: str) -> Position:
            found = position(channel)
            say(chat, "b", "c")  # another node does, before this one asks for the messages
            return found

        monkeypatch.setattr(chat.store, "position", late)
        store: Any = chat.store
        store._histories.clear()
        chat.node.refresh(chat.node.channel("room"))
        items = read(3)
        assert said(items) == ["GAP", "b", "c"]
        assert items[0]["id"] == f"{items[1]['epoch']}:-1"


def test_many_channels_are_soon_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened() as chat, virtual_clock() as clock, chatting(chat) as [ann]:
        names = [str(number) for number in range(100)]
        for name in names:
            chat.node.channel(name)
        read = by_events(ann, channel=names[-1])
        position, store = chat.store.position, cast("Any", chat.store)

        def slow(channel: str) -> Position:
            gp.sleep(1)
            return position(channel)

        monkeypatch.setattr(store, "position", slow)
        store._feeds._feeds[0].channel.close()  # the node has to begin anew
        start = clock.now()
        store._feeds._feeds = ()
        say(chat, "meanwhile", channel=names[-1])
        assert said(read(1)) == ["meanwhile"]
        assert clock.now() - start < 10


def test_a_slow_store_makes_no_poll_wait_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        opened(alone=False) as chat,
        virtual_clock() as clock,
        chatting(chat) as [ann],
    ):
        monkeypatch.setattr(chat.store, "tell", lambda notice: gp.sleep(10))
        start = clock.now()
        ann.ask("/subscribe?channel=room&sname=ann&seqid=0")
        assert ann.response().json[0]["type"] == "NOOP"
        assert 29 <= clock.now() - start <= 31


def test_a_client_of_a_node_that_was_ahead_loses_and_repeats_nothing() -> None:
    with opened(alone=False) as chat, chatting(chat, 2) as (ann, bob):
        read = by_events(ann, channel="room")
        # What another node publishes is in the store before this node's feed brings it.
        store: Any = chat.store
        feeds, store._feeds._feeds = store._feeds._feeds, ()
        last = say(chat, "a", "b")
        store._feeds._feeds = feeds
        ahead = by_events(bob, channel="room", since=last)
        say(chat, "c")
        assert said(ahead(1)) == ["c"]
        assert said(read(3)) == ["a", "b", "c"]


# -- the end ---------------------------------------------------------------------------------------


def test_who_is_here_at_the_end_is_told_to_come_back() -> None:
    with opened() as chat, chatting(chat, 4) as (poll, events, ws, idle):
        poll.ask("/subscribe?channel=room&sname=ann&seqid=0")
        stream = Events(events, "/stream?channel=room")
        talker = Talker(ws, "/socket?channel=room")
        idle.get("/stats")
        wait_all_parked()
        ending = gp.spawn(chat.close)
        answer = poll.response()
        assert (answer.json[0]["type"], answer.headers["Connection"]) == ("NOOP", "close")
        assert poll.ended()
        assert 1000 <= int(events.until(b"\n\n").removeprefix(b"retry: ")) <= 3000
        assert events.ended()
        assert stream.retry
        assert talker.until_closed() == 1012
        talker.client.conn.close()
        assert idle.ended()
        ending.join()
        assert chat.store.channels() == 1


def test_stats_and_metrics(chat: Chat) -> None:
    with chatting(chat, 2) as (ann, bob):
        Events(ann, "/stream?channel=room")
        say(chat, "hi")
        wait_all_parked()
        numbers = bob.get("/stats").json
        assert {key: numbers[key] for key in ("subscribers", "published", "channels")} == {
            "subscribers": 1,
            "published": 1,
            "channels": 1,
        }
        text = bob.get("/metrics").body.decode()
        assert "chat_published_total 1.0\n" in text
        assert "# TYPE chat_subscribers gauge\n" in text
        assert json.dumps(numbers)
