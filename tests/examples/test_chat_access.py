"""Who may come in, how much they may do, and what only the administrator may."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any
from urllib.parse import quote

import pytest

import greenpump as gp
from examples.chat import tokens
from examples.chat.access import Access
from examples.chat.limits import Limits
from examples.chat.stores import StoreDown
from greenpump.testing import virtual_clock, wait_all_parked
from tests.examples.chat_client import Client, Events, Response, Talker, chatting, opened, waiting

SECRET = "not for everybody"
LISTEN = [
    "/subscribe?channel=room&sname=ann&seqid=0&wait=0",
    "/stream?channel=room&sname=ann",
    "/socket?channel=room&sname=ann",
    "/history?channel=room&before=1",
    "/presence?channel=room",
    "/unread?channel=room",
    "/sign?channel=room&sname=ann",
    "/publish?channel=room&sname=ann&msg=hi",
]
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def ask(client: Client, target: str, headers: str = "") -> int:
    """The status of an answer whose body may never end."""
    client.ask(target, headers=UPGRADE + headers if target.startswith("/socket") else headers)
    return int(client.until(b"\r\n\r\n").split()[1])


def say(client: Client, **more: object) -> Response:
    return client.post("/publish", {"channel": "room", "sname": "ann", "msg": "hi", **more})


# -- tokens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", LISTEN)
def test_with_a_secret_only_a_token_lets_in(target: str) -> None:
    good = tokens.make(SECRET, "room", "ann")
    for token, status in [
        ("", 403),
        ("nonsense", 403),
        (".", 403),
        ("ä.ö", 403),
        (tokens.make("another", "room"), 403),
        (tokens.make(SECRET, "elsewhere"), 403),
        (tokens.make(SECRET, "room", seconds=-1), 403),
        (good[:-1] + ("A" if good[-1] != "A" else "B"), 403),
        (good, 101 if target.startswith("/socket") else 200),
        (tokens.make(SECRET, "*"), 101 if target.startswith("/socket") else 200),
    ]:
        with opened(access=Access(secret=SECRET)) as chat, chatting(chat) as [ann]:
            assert ask(ann, f"{target}&token={quote(token)}") == status, token


def test_a_token_names_who_may_speak() -> None:
    with opened(access=Access(secret=SECRET)) as chat, chatting(chat, 2) as (one, two):
        token = tokens.make(SECRET, "room", "ann")
        assert say(one).status == 403
        assert say(one, token=5).status == 403
        for torn in (f"\ud800{token}", f"{token}\udfff"):  # halves of a pair, as JSON can say it
            assert say(one, token=torn).status == 403
        assert say(one, token=token).status == 200
        assert say(one, token=token, sname="bob").status == 403
        ann = Talker(two, f"/socket?channel=room&sname=ann&token={token}")
        assert ann.item()["type"] == "HELLO"
        ann.publish("hi", token=token)
        ann.publish("hi", sname="bob", token=token)
        ann.say(type="subscribe", channel="other", sname="ann", token=token)
        assert sorted(ann.item()["type"] for _ in range(4)) == ["403", "403", "MSG", "publish"]


def test_a_token_can_not_be_made_of_another() -> None:
    payload, _, signature = tokens.make(SECRET, "room", "ann").partition(".")
    claims = urlsafe_b64decode(payload).replace(b"ann", b"bob")
    with pytest.raises(tokens.BadToken):
        tokens.check(SECRET, f"{urlsafe_b64encode(claims).decode()}.{signature}", "room", "bob")


def test_a_token_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    token = tokens.make(SECRET, "room", seconds=60)
    tokens.check(SECRET, token, "room", "anybody")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    with pytest.raises(tokens.BadToken, match="expired"):
        tokens.check(SECRET, token, "room", "anybody")


# -- origins ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://h", True),
        ("https://h", True),
        ("https://friend.example", True),
        ("http://friend.example", False),
        ("http://evil.example", False),
        ("http://h.evil.example", False),
        ("null", False),
        ("", False),
        ("http://[", False),
    ],
)
def test_pages_of_other_sites_neither_publish_nor_open_websockets(
    origin: str | None, allowed: bool
) -> None:
    headers = "" if origin is None else f"Origin: {origin}\r\n"
    access = Access(origins=("https://friend.example",))
    with opened(access=access) as chat, chatting(chat, 2) as (one, two):
        status = ask(one, "/publish?channel=room&sname=ann&msg=hi", headers)
        assert status == (200 if allowed else 403)
        status = ask(two, "/socket?channel=room", headers)
        assert status == (101 if allowed else 403)


def test_nor_do_they_publish_by_a_script_element() -> None:
    with opened() as chat, chatting(chat, 3) as clients:
        for client, site, status in zip(
            clients, ("cross-site", "same-origin", "none"), (403, 200, 200), strict=True
        ):
            target = "/publish?channel=room&sname=ann&msg=hi"
            assert ask(client, target, f"Sec-Fetch-Site: {site}\r\n") == status


# -- limits ----------------------------------------------------------------------------------------


@virtual_clock()
def test_who_publishes_too_fast_is_told() -> None:
    limits = Limits(rate=2, burst=5)
    with opened(limits=limits) as chat, chatting(chat, 2) as (one, two):
        assert [say(one).status for _ in range(6)] == [200] * 5 + [429]
        refused = say(one)
        assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        ann = Talker(two, "/socket")
        ann.publish("one more", cid="c")
        item = ann.item()
        assert (item["type"], item["cid"]) == ("429", "c")
        gp.sleep(1)
        assert [say(one).status for _ in range(3)] == [200, 200, 429]


def test_a_channel_may_be_full() -> None:
    with opened(limits=Limits(subscribers=1)) as chat, chatting(chat, 3) as (one, two, three):
        Events(one, "/stream?channel=room")
        assert two.get("/subscribe?channel=room&sname=ann&seqid=0").status == 429
        assert ask(three, "/socket?channel=room") == 429
        assert ask(two, "/stream?channel=other") == 200


# -- the administrator -----------------------------------------------------------------------------

ADMIN = "Authorization: Bearer root\r\n"


def post(client: Client, what: str, headers: str = ADMIN, **fields: Any) -> Response:
    body = json.dumps(fields)
    client.send(
        f"POST /admin/{what} HTTP/1.1\r\nHost: h\r\n{headers}"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    return client.response()


@pytest.fixture
def access() -> Access:
    return Access(admin="root")


def test_the_administrator(access: Access) -> None:
    with opened(access=access) as chat, chatting(chat, 2) as (root, one):
        ann = Talker(one, "/socket?channel=room&sname=ann")
        assert ann.item()["type"] == "HELLO"
        assert post(root, "broadcast", channel="room", sname="root", msg="Dinner!").status == 200
        assert ann.item()["msg"] == "Dinner!"
        [info] = root.get("/admin/info?channel=room", headers=ADMIN).json
        assert (info["subscribers"], info["names"]) == (1, ["ann"])
        for channel, known in (("room", True), ("elsewhere", False)):
            [check] = root.get(f"/admin/check?channel={channel}", headers=ADMIN).json
            assert check["known"] is known
        assert post(root, "clear", channel="room").status == 200
        assert ann.item()["type"] == "GAP"
        assert root.get("/history?channel=room&before=9").json == []
        assert post(root, "close", channel="room").status == 200
        assert ann.until_closed() == 1012
        wait_all_parked()
        assert waiting(chat) == 0


@pytest.mark.parametrize("headers", ["", "Authorization: Bearer no\r\n", "Authorization: root\r\n"])
def test_nobody_else_is_the_administrator(access: Access, headers: str) -> None:
    with opened(access=access) as chat, chatting(chat) as [one]:
        for what in ("broadcast", "close", "clear"):
            answer = post(one, what, headers, channel="room", sname="x", msg="x")
            assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        for what in ("info", "check"):
            assert one.get(f"/admin/{what}?channel=room", headers=headers).status == 401


def test_without_a_token_for_it_there_is_no_administrator() -> None:
    with opened() as chat, chatting(chat) as [one]:
        assert post(one, "clear", "Authorization: Bearer \r\n", channel="room").status == 404


def test_the_store_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object) -> Any:
        raise StoreDown("on purpose")

    with opened() as chat, chatting(chat, 2) as (one, two):
        ann = Talker(two, "/socket?channel=room&sname=ann")
        assert ann.item()["type"] == "HELLO"
        publish = chat.store.publish
        monkeypatch.setattr(chat.store, "publish", down)
        answer = say(one, cid="c")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        ann.publish("hi", cid="c")
        item = ann.item()
        assert (item["type"], item["cid"]) == ("503", "c")
        monkeypatch.setattr(chat.store, "publish", publish)
        assert say(one, cid="c").status == 200
        assert ann.item()["msg"] == "hi"
