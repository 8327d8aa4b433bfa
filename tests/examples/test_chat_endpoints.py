"""The endpoints, as clients of old and new use them, and what CComet got wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

import greenpump as gp
from examples.chat.chat import Chat
from examples.chat.limits import Limits
from examples.chat.message import Notice
from examples.chat.pages import FOLDER
from examples.chat.transports.jsonp import is_callback
from greenpump.testing import virtual_clock, wait_all_parked
from tests.examples.chat_client import Client, Response, chatting, opened, waiting


@pytest.fixture
def chat() -> Iterator[Chat]:
    with opened() as chat:
        yield chat


def url(path: str, **fields: object) -> str:
    return f"{path}?{urlencode(fields)}"


def poll(sname: str = "ann", seqid: object = 0, **more: object) -> str:
    return url("/subscribe", channel="room", sname=sname, seqid=seqid, **more)


def say(client: Client, msg: str, sname: str = "bob", channel: str = "room") -> int:
    response = client.post("/publish", {"channel": channel, "sname": sname, "msg": msg})
    assert response.status == 200
    [told] = response.json
    assert told["type"] == "publish"
    seqid: int = told["seqid"]
    return seqid


def texts(response: Response) -> list[str]:
    return [item["msg"] for item in response.json]


def script_argument(response: Response) -> Any:
    """What a page's callback would get, by a reader that knows one literal and nothing else."""
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    script = response.body.decode("ascii")
    found = re.fullmatch(r'/\*\*/[\w$.]+\(("(?:[^"\\\n<]|\\.)*")\);\n', script)
    assert found is not None, script
    return json.loads(json.loads(found[1]))


# -- as CComet's clients do it ---------------------------------------------------------------------


def test_a_client_of_the_originals(chat: Chat) -> None:
    with chatting(chat, 2) as (ann, bob):
        signed = ann.get(url("/sign", channel="room", sname="ann", callback="jQuery1_2", time=3))
        assert script_argument(signed)[0]["type"] == "sign in"
        ann.ask(poll(callback="jQuery1_3"))
        wait_all_parked()
        published = bob.get(
            url("/publish", channel="room", sname="bob", msg="it's <b>", callback="$.cb")
        )
        assert script_argument(published)[0]["type"] == "publish"
        [message] = script_argument(ann.response())
        assert {key: message[key] for key in ("type", "msg", "sname", "seqid", "channel")} == {
            "type": "MSG",
            "msg": "it's <b>",
            "sname": "bob",
            "seqid": 0,
            "channel": "room",
        }


def test_an_arrival_is_told_to_those_who_wait(chat: Chat) -> None:
    with chatting(chat, 2) as (ann, bob):
        say(bob, "first")
        ann.ask(poll(seqid=1))
        wait_all_parked()
        bob.get(url("/sign", channel="room", sname="bob"))
        [item] = ann.response().json
        assert (item["type"], item["sname"], item["seqid"]) == ("SIGN", "bob", 0)


def test_arrivals_and_messages_come_in_their_order(chat: Chat) -> None:
    with chatting(chat, 2) as (ann, bob):
        ann.ask(poll())
        wait_all_parked()
        sign = f"GET {url('/sign', channel='room', sname='bob')} HTTP/1.1\r\nHost: h\r\n\r\n"
        publish = url("/publish", channel="room", sname="bob", msg="hi")
        bob.send((sign + f"GET {publish} HTTP/1.1\r\nHost: h\r\n\r\n" + sign).encode())
        items = ann.response().json
        assert [(each["type"], each["seqid"]) for each in items] == [
            ("SIGN", -1),
            ("MSG", 0),
            ("SIGN", 0),
        ]
        for _ in range(3):
            assert bob.response().status == 200


# -- polls -----------------------------------------------------------------------------------------


def test_a_poll_gets_everything_from_its_seqid_on(chat: Chat) -> None:
    with chatting(chat) as [ann]:
        for text in ("a", "b", "c"):
            say(ann, text)
        assert texts(ann.get(poll(seqid=1))) == ["b", "c"]


def test_a_poll_waits_for_what_is_said_next(chat: Chat) -> None:
    with chatting(chat, 2) as (ann, bob):
        ann.ask(poll())
        wait_all_parked()
        assert waiting(chat) == 1
        say(bob, "elsewhere", channel="other")
        wait_all_parked()
        assert waiting(chat) == 1
        say(bob, "here")
        assert texts(ann.response()) == ["here"]


def test_a_poll_ends_after_30_seconds_with_a_noop(chat: Chat) -> None:
    with virtual_clock() as clock, chatting(chat) as [ann]:
        say(ann, "a")
        start = clock.now()
        [item] = ann.get(poll(seqid=1)).json
        assert (item["type"], item["seqid"]) == ("NOOP", 0)
        assert 29 <= clock.now() - start <= 31
        # And the same connection goes on.
        say(ann, "b")
        assert texts(ann.get(poll(seqid=1))) == ["b"]


@pytest.mark.parametrize(("wait", "seconds"), [(0, 0), (5, 5), (500, 30), (9999, 30)])
def test_a_client_may_wait_less_but_not_more(chat: Chat, wait: int, seconds: int) -> None:
    with virtual_clock() as clock, chatting(chat) as [ann]:
        start = clock.now()
        assert ann.get(poll(wait=wait)).json[0]["type"] == "NOOP"
        assert abs(clock.now() - start - seconds) <= 1


def test_two_polls_of_one_name_are_both_answered(chat: Chat) -> None:
    with chatting(chat, 3) as (first, second, bob):
        first.ask(poll("ann"))
        second.ask(poll("ann"))
        wait_all_parked()
        assert waiting(chat) == 2
        say(bob, "for both")
        assert texts(first.response()) == texts(second.response()) == ["for both"]


@virtual_clock()
def test_a_client_that_leaves_frees_its_poll_at_once(chat: Chat) -> None:
    with chatting(chat, 2) as (ann, bob):
        ann.ask(poll("ann"))
        bob.ask(poll("bob"))
        wait_all_parked()
        assert waiting(chat) == 2
        ann.conn.close()
        wait_all_parked()
        assert waiting(chat) == 1
        gp.sleep(1)
        chat.node.publish("room", "cat", "hi")
        assert texts(bob.response()) == ["hi"]


@virtual_clock()
def test_a_thousand_polls_come_and_go(chat: Chat) -> None:
    with chatting(chat, 20) as clients:
        for _ in range(50):
            for client in clients:
                client.ask(poll(seqid=0))
            wait_all_parked()
            assert waiting(chat) == 20
            chat.store.tell(Notice("room", "SIGN", "cat"))
            for client in clients:
                assert client.response().json[0]["type"] == "SIGN"
        assert waiting(chat) == 0


def test_a_client_from_before_a_restart_goes_on(chat: Chat) -> None:
    with chatting(chat) as [ann]:
        say(ann, "before")
        [last] = ann.get(poll()).json
    with opened() as restarted, chatting(restarted) as [ann]:
        say(ann, "after 1")
        say(ann, "after 2")
        resume = poll(seqid=last["seqid"] + 1, epoch=last["epoch"])
        items = ann.get(resume).json
        assert [item["type"] for item in items] == ["GAP", "MSG", "MSG"]
        assert items[-1]["epoch"] != last["epoch"]
        resume = poll(seqid=items[-1]["seqid"] + 1, epoch=items[-1]["epoch"], wait=0)
        assert [item["type"] for item in ann.get(resume).json] == ["NOOP"]


@pytest.mark.parametrize("pause", [False, True])
def test_who_goes_on_before_its_poll_is_answered_waits_for_it_no_longer(
    chat: Chat, pause: bool
) -> None:
    with chatting(chat, 2) as (ann, bob):
        ann.ask(poll(seqid=0))
        if pause:
            wait_all_parked()
        ann.ask(poll(seqid=0))
        assert ann.response().json[0]["type"] == "NOOP"
        wait_all_parked()
        say(bob, "a")
        assert texts(ann.response()) == ["a"]


# -- what comes in is what goes out ----------------------------------------------------------------

NASTY = [
    "it's",
    '"',
    "\\",
    "</script><script>alert(1)</script>",
    "<!--",
    "');alert(1);//",
    "a\nb\tc",
    "\u2028\u2029",
    "😀",
    "'; DROP TABLE messages; --",
    "%00 & ?#+",
    "{{7*7}} ${1}",
]


@pytest.mark.parametrize("text", NASTY)
def test_any_text_arrives_as_it_was_sent(chat: Chat, text: str) -> None:
    name = text.replace("\n", " ").replace("\t", " ").strip("\u2028\u2029") or "ann"
    with chatting(chat) as [ann]:
        body = {"channel": name, "sname": name, "msg": f"<{text}>"}
        assert ann.post("/publish", body).status == 200
        get = url("/publish", channel=name, sname=name, msg=f"<{text}>", callback="cb")
        script_argument(ann.get(get))
        target = url("/subscribe", channel=name, sname=name, seqid=0)
        items = ann.get(target).json
        assert items == script_argument(ann.get(f"{target}&callback=a.b.$c"))
        assert [(item["msg"], item["sname"], item["channel"]) for item in items] == [
            (f"<{text}>", name, name)
        ] * 2


@pytest.mark.parametrize(
    "callback",
    ["alert(1)//", "a;b", "a b", "", "1a", "a" * 65, "a\n", "ä", "<script>", "a-b", "a[0]", "\x00"],
)
def test_a_callback_is_a_name_and_nothing_else(chat: Chat, callback: str) -> None:
    assert not is_callback(callback)
    with chatting(chat) as [ann]:
        response = ann.get(url("/sign", channel="a", sname="b", callback=callback))
        assert (response.status, response.headers["Content-Type"]) == (400, "application/json")
        assert response.json == [
            {"type": "400", "reason": "callback is not the name of a function"}
        ]


@pytest.mark.parametrize("callback", ["a", "_", "$", "jQuery1110_42", "a.b.c", "a" * 64])
def test_names_are_callbacks(callback: str) -> None:
    assert is_callback(callback)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/sign?sname=a", "channel is missing or not a text"),
        ("/sign?channel=a", "sname is missing or not a text"),
        ("/sign?channel=a&sname=", "sname is empty"),
        ("/sign?channel=a&sname=%20%09", "sname is empty"),
        ("/sign?channel=a&sname=" + "x" * 65, "sname is longer than 64 characters"),
        ("/sign?channel=a%0Ab&sname=a", "channel contains U+000A"),
        ("/sign?channel=%00a&sname=a", "channel contains U+0000"),
        ("/sign?channel=%ff&sname=a", "the query is not UTF-8"),
        ("/sign?channel=%ED%A0%80&sname=a", "the query is not UTF-8"),
        ("/sign?" + "a=b&" * 40, "the query has more than 32 fields"),
        ("/publish?channel=a&sname=a", "msg is missing or not a text"),
        ("/publish?channel=a&sname=a&msg=", "msg is empty"),
        ("/publish?channel=a&sname=a&msg=" + "x" * 513, "msg is longer than 512 characters"),
        ("/publish?channel=a&sname=a&msg=x%07", None),
        ("/subscribe?channel=a&sname=a", "seqid is not a number from 0 to 9007199254740992"),
        ("/subscribe?channel=a&sname=a&since=5", "since is not the id of an item"),
        ("/subscribe?channel=a&sname=a&since=ab:-2", None),
        ("/stream?channel=a&since=ab:", "since is not the id of an item"),
        ("/stream?channel=a&last=-1", "last is not a number from 0 to 100"),
        ("/history?channel=a", "before is not a number from 0 to 9007199254740992"),
        ("/history?channel=a&before=-1", None),
        ("/subscribe?channel=a&sname=a&seqid=-1", None),
        ("/subscribe?channel=a&sname=a&seqid=1e3", None),
        ("/subscribe?channel=a&sname=a&seqid=" + "9" * 17, None),
        ("/subscribe?channel=a&sname=a&seqid=%D9%A3", None),  # an Arabic 3
        ("/subscribe?channel=a&sname=a&seqid=0&wait=soon", "wait is not a number from 0 to 3600"),
    ],
)
def test_wrong_fields_are_named(chat: Chat, target: str, reason: str | None) -> None:
    with chatting(chat) as [ann]:
        if target.endswith("%07"):
            target += "x"
        response = ann.get(target)
        assert response.status == 400
        [complaint] = response.json
        assert complaint["type"] == "400"
        assert reason in (None, complaint["reason"])
        # A script is run only when its status is 200, so there the item alone says it.
        if "UTF-8" not in complaint["reason"] and "32 fields" not in complaint["reason"]:
            assert script_argument(ann.get(f"{target}&callback=cb")) == [complaint]


@pytest.mark.parametrize("seqid", [5, 2**53])
def test_a_seqid_from_the_future_is_a_gap(chat: Chat, seqid: int) -> None:
    with chatting(chat) as [ann]:
        say(ann, "a")
        assert [item["type"] for item in ann.get(poll(seqid=seqid)).json] == ["GAP", "MSG"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"channel": "room", "sname": "ann", "msg": "hi", "cid": NaN}', 400),
        (b"\xff\xfe", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"[" * 10_000, 400),
        (b'{"channel": "a", "sname": "b", "msg": 5}', 400),
        (b'{"channel": "a", "sname": "b", "msg": ["x"]}', 400),
        (b'{"channel": "a", "sname": "b", "msg": "\\ud800"}', 400),
        (b'{"channel": "a", "sname": "b", "msg": "\\u0000"}', 400),
        (b'{"channel": "a", "sname": "b", "msg": "x", "extra": -1e999}', 400),
        (b'{"channel": "a", "sname": "b"}', 400),
        (b'{"channel": "a", "sname": "b", "msg": "x"}', 200),
    ],
)
def test_json_that_is_none(chat: Chat, body: bytes, status: int) -> None:
    with chatting(chat) as [ann]:
        assert ann.post("/publish", body).status == status
        assert ann.get("/").status == 200  # the connection is none the worse


def test_a_form_can_not_publish(chat: Chat) -> None:
    with chatting(chat) as [ann]:
        body = b'{"channel": "a", "sname": "b", "msg": "x"}'
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            assert ann.post("/publish", body, kind).status == 415
        for kind in ("application/json; charset=utf-8", "Application/JSON"):
            assert ann.post("/publish", body, kind).status == 200


def test_512_characters_pass_however_long_they_are_in_bytes(chat: Chat) -> None:
    with chatting(chat) as [ann]:
        text = "😀" * 512
        say(ann, text)
        assert ann.get(url("/publish", channel="room", sname="a", msg=text)).status == 200
        assert texts(ann.get(poll())) == [text, text]


def test_too_many_channels() -> None:
    with opened(limits=Limits(channels=1)) as chat, chatting(chat, 2) as (ann, bob):
        ann.ask(poll())
        wait_all_parked()
        response = bob.get(url("/sign", channel="other", sname="bob"))
        assert (response.status, response.headers["Retry-After"]) == (429, "1")


# -- routes and pages ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "status", "allow"),
    [
        ("GET", "/nothing", 404, None),
        ("GET", "/../chat.py", 404, None),
        ("GET", "/%2e%2e/chat.py", 404, None),
        ("GET", "//chat.js", 404, None),
        ("OPTIONS", "*", 404, None),
        ("DELETE", "/publish", 405, "GET, POST"),
        ("HEAD", "/publish", 405, "GET, POST"),  # a GET that says something is no HEAD's business
        ("POST", "/", 405, "GET, HEAD"),
        ("GET", "http://[/", 400, None),
    ],
)
def test_where_there_is_nothing(
    chat: Chat, method: str, target: str, status: int, allow: str | None
) -> None:
    with chatting(chat) as [ann]:
        ann.send(f"{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode())
        response = ann.response(method)
        assert (response.status, response.headers["Allow"]) == (status, allow)


def test_each_file_of_the_page_is_served_and_nothing_inline_may_run(chat: Chat) -> None:
    with chatting(chat) as [ann]:
        for path in FOLDER.iterdir():
            target = f"/{quote(path.name)}" if path.name != "index.html" else "/"
            response = ann.get(target)
            assert response.body == path.read_bytes()
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in policy
            again = ann.get(target, headers=f"If-None-Match: {response.headers['ETag']}\r\n")
            assert (again.status, again.body) == (304, b"")
            head = ann.get(target, "HEAD")
            assert head.headers["Content-Length"] == str(len(response.body))


def test_the_page_asks_nobody_else() -> None:
    for path in FOLDER.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        outside = re.findall(
            r"""(?:src|href|url|from|import|fetch)\W{1,3}(?:https?:)?//\S+""", text
        )
        assert outside == [], path.name
        assert "innerHTML" not in text
        assert "insertAdjacentHTML" not in text


PIECES = st.sampled_from(
    [
        b"GET ",
        b"POST ",
        b"/subscribe?channel=a&sname=b&seqid=",
        b"/publish",
        b"/sign?channel=%ff",
        b"?callback=",
        b" HTTP/1.1\r\n",
        b"Host: h\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Type: application/json\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n",
        b"{}",
        b"0",
        b"\xff",
    ]
)


@given(data=st.lists(PIECES | st.binary(max_size=3), max_size=40).map(b"".join))
@virtual_clock()
def test_whatever_is_sent_the_connection_comes_to_an_end(data: bytes) -> None:
    with opened() as chat, chatting(chat) as [ann]:
        ann.send(data)
        ann.conn.shutdown(1)
        while ann.conn.recv(65536):
            pass


def test_an_unforeseen_error_is_answered_and_reported(
    chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise ZeroDivisionError("on purpose")

    reported: list[str] = []
    monkeypatch.setattr(gp, "excepthook", lambda task, error: reported.append(str(error)))
    with chatting(chat) as [ann]:
        monkeypatch.setattr(chat.node, "publish", broken)
        response = ann.post("/publish", {"channel": "room", "sname": "a", "msg": "b"})
        assert (response.status, response.headers["Connection"]) == (500, "close")
        assert ann.ended()
    assert reported == ["on purpose"]
