"""Channels: numbers, bounds, gaps, and who is woken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from examples.chat import channels
from examples.chat.channels import Channel, Channels, TooManyChannels


def items(texts: list[str]) -> list[dict[str, Any]]:
    return [json.loads(text) for text in texts]


def said(texts: list[str]) -> list[tuple[str, int, str]]:
    return [(item["type"], item["seqid"], item["msg"]) for item in items(texts)]


GAP = "Some messages may be missing here."


def test_messages_are_numbered_from_0() -> None:
    channel = Channel("room")
    assert [channel.publish("ann", text) for text in ("a", "b", "c")] == [0, 1, 2]
    assert said(channel.since(0)) == [("MSG", 0, "a"), ("MSG", 1, "b"), ("MSG", 2, "c")]
    assert said(channel.since(2)) == [("MSG", 2, "c")]
    assert channel.since(3) == []


def test_an_item_says_all_there_is_to_know() -> None:
    channel = Channel("room")
    channel.publish("ann", "hi")
    [item] = items(channel.since(0))
    assert item.pop("time") > 0
    assert item == {
        "type": "MSG",
        "msg": "hi",
        "sname": "ann",
        "seqid": 0,
        "channel": "room",
        "epoch": channel.epoch,
    }


def test_a_client_from_the_future_is_told_of_a_gap() -> None:
    channel = Channel("room")
    channel.publish("ann", "a")
    assert said(channel.since(7)) == [("GAP", -1, GAP), ("MSG", 0, "a")]


def test_another_epoch_is_a_gap_even_when_the_number_would_fit() -> None:
    channel = Channel("room")
    for text in "abc":
        channel.publish("ann", text)
    assert channel.since(3, channel.epoch) == []
    assert said(channel.since(3, "gone"))[:2] == [("GAP", -1, GAP), ("MSG", 0, "a")]
    assert said(channel.since(1, channel.epoch)) == [("MSG", 1, "b"), ("MSG", 2, "c")]


def test_an_epoch_is_never_that_of_another_channel() -> None:
    assert len({Channel("room").epoch for _ in range(50)}) == 50


def test_history_is_bounded_by_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "HISTORY", 3)
    channel = Channel("room")
    for number in range(10):
        channel.publish("ann", str(number))
    assert said(channel.since(0)) == [("GAP", 6, GAP)] + [("MSG", n, str(n)) for n in (7, 8, 9)]
    assert said(channel.since(6))[0] == ("GAP", 6, GAP)
    assert said(channel.since(7))[0] == ("MSG", 7, "7")
    # Who goes on from each item's seqid + 1 meets the gap once.
    assert channel.since(10) == []


def test_history_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "HISTORY_BYTES", 4000)
    channel = Channel("room")
    for _ in range(50):
        channel.publish("ann", "x" * 500)
    kept = channel.since(0)[1:]
    assert sum(map(len, kept)) <= 4000 < sum(map(len, kept)) + 700


def test_a_long_history_comes_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "BATCH", 4)
    channel = Channel("room")
    for number in range(10):
        channel.publish("ann", str(number))
    seqid, seen = 0, []
    while batch := items(channel.since(seqid, channel.epoch)):
        assert len(batch) <= 4
        seen += [item["msg"] for item in batch]
        seqid = batch[-1]["seqid"] + 1
    assert seen == [str(number) for number in range(10)]


def test_everybody_who_waits_is_woken_and_nobody_else() -> None:
    channel, woken = Channel("room"), []

    def wake_ann() -> None:
        woken.append("ann")

    def wake_bob() -> None:
        woken.append("bob")

    with channel.waiting(wake_ann), channel.waiting(wake_bob):
        assert channel.waiters == 2
        channel.publish("cat", "hi")
        assert sorted(woken) == ["ann", "bob"]
    assert channel.waiters == 0
    channel.publish("cat", "hi")
    assert len(woken) == 2


def test_an_arrival_is_news_to_those_who_wait_and_is_not_kept() -> None:
    channel = Channel("room")
    channel.publish("ann", "hi")
    with channel.waiting(lambda: None) as signs:
        assert channel.sign("bob") == 0
    assert said(signs) == [("SIGN", 0, "SIGN")]
    assert items(signs)[0]["sname"] == "bob"
    assert channel.since(1) == []


def test_every_item_is_one_to_go_on_from() -> None:
    channel = Channel("room")
    assert said([channel.noop()]) == [("NOOP", -1, "")]
    with channel.waiting(lambda: None) as signs:
        channel.sign("bob")
        channel.publish("bob", "first")
        channel.sign("cat")
    for item in items(signs):
        # Neither an arrival before the message nor one after it makes anybody miss it or repeat it.
        assert item["seqid"] + 1 in (0, 1)
    assert [item["seqid"] for item in items(signs)] == [-1, 0]
    assert items([channel.noop()])[0]["seqid"] == 0


def test_channels_are_made_when_asked_for() -> None:
    rooms = Channels()
    assert rooms["a"] is rooms["a"]
    assert rooms["a"] is not rooms["b"]
    assert len(rooms) == 2


def test_the_least_recently_used_channel_makes_way() -> None:
    rooms = Channels(limit=2)
    first, second = rooms["first"], rooms["second"]
    assert rooms["first"] is first
    assert rooms["third"].name == "third"
    assert len(rooms) == 2
    assert rooms["first"] is first
    assert rooms["second"] is not second
    assert rooms["second"].epoch != second.epoch


def test_a_channel_in_which_somebody_waits_does_not_make_way() -> None:
    rooms = Channels(limit=2)
    with rooms["a"].waiting(lambda: None):
        rooms["b"].publish("ann", "hi")
        rooms["c"]
        assert rooms.waiters == 1
        with rooms["c"].waiting(lambda: None), pytest.raises(TooManyChannels):
            rooms["d"]
        assert rooms["d"].name == "d"
