"""The WebSocket end, frame by frame: by the numbers of Autobahn's test suite, and by fuzzing.

Autobahn's own suite (PyPI autobahntestsuite 25.10.1) still needs Python 2.7 and a Twisted of 2019.
(Its case files, translated by lib2to3, were played once: 1 to 7, 9 and 10 pass, 9 without limits.)
These are its cases, sent as bytes to an echo server made of the chat's ``WebSocket``:

    section              tests
    1   framing          test_1: sizes to MAX_MESSAGE, in one piece; byte by byte in 2, 5, 9
    2   pings, pongs     test_2; too long: test_what_is_wrong
    3   reserved bits    test_what_is_wrong: every combination, in every kind of frame
    4   opcodes          test_what_is_wrong: every reserved one, empty and not
    5   fragmentation    test_5; what can't be continued: test_what_is_wrong
    6   UTF-8            test_6; test_6_what_is_no_utf_8, at once (6.4) and byte by byte
    7   closing          test_7; wrong codes and reasons: test_what_is_wrong
    9   limits           test_9, up to what the chat takes; beyond it 1009
    10  miscellaneous    test_9: fragments; test_10
    12, 13 compression   optional, and not offered
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenpump as gp
from examples.chat.http import Connection
from examples.chat.stores import StoreDown
from examples.chat.transports import websocket
from examples.chat.transports.websocket import MAX_MESSAGE, WebSocket, handshake
from greenpump.testing import virtual_clock, wait_all_parked
from tests.examples.chat_client import UPGRADE, Client, Talker, chatting, client_of, opened

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x37\xfa\x21\x3d"


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = True
) -> bytes:
    """A frame as a client sends it, right or wrong."""
    size = len(payload)
    bits = 0x80 if mask else 0
    if size < 126:
        length = bytes([bits | size])
    elif size < 1 << 16:
        length = bytes([bits | 126]) + struct.pack("!H", size)
    else:
        length = bytes([bits | 127]) + struct.pack("!Q", size)
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode]) + length
    if not mask:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


def answered(opcode: int, payload: bytes = b"") -> bytes:
    """A frame as the server sends it."""
    return frame(opcode, payload, mask=False)


def closed(data: bytes) -> int | None:
    """The code of the close frame that ``data`` ends with; None: it has no code, or there is none.

    Whatever else it holds must be whole frames.
    """
    code = None
    while data:
        size, start = data[1] & 0x7F, 2
        if size == 126:
            size, start = struct.unpack("!H", data[2:4])[0], 4
        elif size == 127:
            size, start = struct.unpack("!Q", data[2:10])[0], 10
        payload, rest = data[start : start + size], data[start + size :]
        assert len(payload) == size
        if data[0] == 0x80 | CLOSE:
            assert rest == b""
            code = struct.unpack("!H", payload[:2])[0] if payload else None
            payload[2:].decode()
        data = rest
    return code


@contextmanager
def echoing() -> Iterator[Client]:
    """A client of an echo server, past the handshake."""

    def echo(talker: WebSocket, message: str | bytes) -> None:
        if isinstance(message, str):
            talker.write(answered(TEXT, message.encode()))
        else:
            talker.write(answered(BINARY, message))

    with opened() as chat:

        def handle(conn: gp.Socket, peer: Any) -> None:
            connection = Connection(conn)
            for request in connection:
                talker = WebSocket(chat.node, conn, "", echo)
                talker.write(handshake(request))
                talker.read(connection.rest)

        with client_of(handle) as client:
            client.ask("/", headers=UPGRADE)
            assert client.response().status == 101
            yield client
        wait_all_parked()
        assert len(chat.node.wheel) == 0


def exchange(*sent: bytes) -> bytes:
    """What the server says to what was sent, until it closes, or nothing more comes."""
    with echoing() as client:
        for data in sent:
            try:
                client.send(data)
            except ConnectionError:
                break  # it has closed already
            wait_all_parked()
        got = b""
        client.conn.settimeout(0)
        with suppress(BlockingIOError, ConnectionResetError):
            while data := client.conn.recv(1 << 20):
                got += data
                wait_all_parked()  # there may be a backlog
        return got


def both_ways(data: bytes) -> list[tuple[bytes, ...]]:
    """In one piece, and byte by byte."""
    return [(data,), tuple(data[at : at + 1] for at in range(len(data)))]


# -- what is right ---------------------------------------------------------------------------------

UTF8 = "Hello-µ@ßöäüàá-UTF-8!! 😀".encode()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 4000, MAX_MESSAGE - 384, MAX_MESSAGE])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_1_messages_of_all_sizes(opcode: int, size: int) -> None:
    payload = b"*" * size
    assert exchange(frame(opcode, payload)) == answered(opcode, payload)


@pytest.mark.parametrize(
    "payload", [b"", b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125]
)
def test_2_pings_are_answered(payload: bytes) -> None:
    for sent in both_ways(frame(PING, payload)):
        assert exchange(*sent) == answered(PONG, payload)


def test_2_7_unsolicited_pongs_are_ignored() -> None:
    assert exchange(frame(PONG), frame(PONG, b"x"), frame(PING, b"a")) == answered(PONG, b"a")


def test_2_10_many_pings_are_answered_in_turn() -> None:
    pings = [f"payload-{number}".encode() for number in range(10)]
    expected = b"".join(answered(PONG, ping) for ping in pings)
    for sent in both_ways(b"".join(frame(PING, ping) for ping in pings)):
        assert exchange(*sent) == expected


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([frame(TEXT, b"a", fin=False), frame(CONT, b"b")], answered(TEXT, b"ab")),
        (
            [frame(TEXT, b"a", fin=False), frame(PING, b"p"), frame(CONT, b"b")],
            answered(PONG, b"p") + answered(TEXT, b"ab"),
        ),
        ([frame(TEXT, fin=False), frame(CONT, fin=False), frame(CONT)], answered(TEXT)),
        ([frame(TEXT, fin=False), frame(CONT, b"m", fin=False), frame(CONT)], answered(TEXT, b"m")),
        ([frame(BINARY, b"a", fin=False), frame(CONT, b"b")], answered(BINARY, b"ab")),
        (
            [
                frame(TEXT, b"1", fin=False),
                frame(PING, b"p"),
                frame(CONT, b"2", fin=False),
                frame(PING, b"q"),
                frame(CONT, b"3"),
                frame(TEXT, b"next"),
            ],
            answered(PONG, b"p")
            + answered(PONG, b"q")
            + answered(TEXT, b"123")
            + answered(TEXT, b"next"),
        ),
    ],
)
def test_5_fragments(frames: list[bytes], expected: bytes) -> None:
    assert exchange(*frames) == expected
    for sent in both_ways(b"".join(frames)):
        assert exchange(*sent) == expected


def test_6_utf_8_may_be_cut_anywhere() -> None:
    for cut in range(len(UTF8) + 1):
        sent = frame(TEXT, UTF8[:cut], fin=False) + frame(CONT, UTF8[cut:])
        assert exchange(sent) == answered(TEXT, UTF8)


@pytest.mark.parametrize(
    "text", ["\x00", "\x7f", "\ufffd", "\uffff", "\U0010ffff", "\ud7ff", "\ue000"]
)
def test_6_any_code_point_passes(text: str) -> None:
    assert exchange(frame(TEXT, text.encode())) == answered(TEXT, text.encode())


def test_7_1_a_close_is_answered_and_what_follows_ignored() -> None:
    for sent in both_ways(close(1000) + frame(TEXT, b"late") + frame(PING)):
        assert closed(exchange(*sent)) == 1000


def test_7_3_a_close_without_a_code() -> None:
    assert exchange(frame(CLOSE)) == answered(CLOSE)


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
)
def test_7_7_codes_that_clients_may_use(code: int) -> None:
    assert closed(exchange(close(code, "begründet".encode()))) == code


def test_9_one_message_in_very_many_fragments() -> None:
    data = frame(TEXT, b"x", fin=False) + frame(CONT, b"x", fin=False) * 2000 + frame(CONT)
    assert exchange(data) == answered(TEXT, b"x" * 2001)


def test_10_many_messages_at_once() -> None:
    assert exchange(frame(TEXT, b"hi") * 500) == answered(TEXT, b"hi") * 500


# -- what is wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(PING, b"x" * 126), 1002),  # 2.5
        *(
            (frame(opcode, b"xx", rsv=rsv), 1002)  # 3
            for opcode in (TEXT, BINARY, PING, PONG, CLOSE)
            for rsv in range(1, 8)
        ),
        *(
            (frame(opcode, payload), 1002)  # 4
            for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
            for payload in (b"", b"Hello, world!")
        ),
        (frame(PING, b"x", fin=False), 1002),  # 5.1
        (frame(PONG, b"x", fin=False), 1002),
        (frame(CONT, b"x"), 1002),  # 5.9
        (frame(CONT, b"x", fin=False), 1002),
        (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),  # 5.18
        (frame(TEXT, b"a", fin=False) + frame(CONT, b"\xff", fin=False), 1007),  # 6.4: at once
        (frame(CLOSE, b"\x03"), 1002),  # 7.3.2
        (close(1000, b"x" * 124), 1002),
        (close(1000, b"\xff\xfe"), 1007),  # 7.5.1
        *(
            (close(code), 1002) for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999)
        ),  # 7.9
        (close(5000), 1002),
        (close(65535), 1002),
        (frame(TEXT, b"x", mask=False), 1002),
        (b"\x81\xfe\x00\x05" + MASK + b"xxxxx", 1002),  # a length in more bytes than it needs
        (b"\x82\xff" + b"\x80" + bytes(7) + MASK, 1002),  # a length beyond 2**63
        (frame(TEXT, b"x" * (MAX_MESSAGE + 1)), 1009),
        (frame(TEXT, b"x" * MAX_MESSAGE, fin=False) + frame(CONT, b"x"), 1009),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 1002),
    ],
)
def test_what_is_wrong_gets_its_code(data: bytes, code: int) -> None:
    good = frame(TEXT, b"good")
    got = exchange(good + data)
    assert got.startswith(answered(TEXT, b"good"))
    assert closed(got) == code
    if len(data) < 200:
        assert closed(exchange(*both_ways(data)[1])) == code


@pytest.mark.parametrize(
    "wrong",
    [
        b"\x80",  # what continues nothing
        b"\xbf" * 3,
        b"\xce",  # cut short
        b"\xe0\xa0x",
        b"\xf0\x90\x80",
        b"\xc0\xaf",  # longer than it need be
        b"\xc1\xbf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xed\xa0\x80",  # halves of surrogate pairs
        b"\xed\xaf\xbf\xed\xb0\x80",
        b"\xf4\x90\x80\x80",  # beyond U+10FFFF
        b"\xf8\x88\x80\x80\x80",  # of five bytes, and of six
        b"\xfc\x84\x80\x80\x80\x80",
        b"\xfe",
        b"\xff",
    ],
)
def test_6_what_is_no_utf_8(wrong: bytes) -> None:
    good = "κόσμε".encode()
    for sent in both_ways(frame(TEXT, good + wrong)):
        assert closed(exchange(*sent)) == 1007
    # 6.4: before the message is complete.
    pieces = [frame(CONT, bytes([byte]), fin=False) for byte in wrong + b"x"]
    assert closed(exchange(frame(TEXT, good, fin=False), *pieces)) == 1007


def test_there_is_an_end_to_empty_fragments() -> None:
    empty = frame(CONT, fin=False) * (MAX_MESSAGE // 2)
    assert closed(exchange(frame(TEXT, fin=False), empty, frame(CONT, b"x"))) is None
    assert closed(exchange(frame(TEXT, fin=False), empty, empty)) == 1009


def test_a_giant_frame_is_refused_before_it_has_come() -> None:
    giant = b"\x81\xff" + struct.pack("!Q", 1 << 40) + MASK + MASK * MAX_MESSAGE
    assert closed(exchange(giant)) == 1009


@pytest.mark.parametrize(
    "data",
    [b"\x81", frame(TEXT, b"hello")[:-1], frame(TEXT, b"x", fin=False), frame(PING, b"x")[:3]],
)
def test_a_message_that_never_ends_is_cut_off(data: bytes) -> None:
    with virtual_clock() as clock, echoing() as client:
        client.send(data)
        start = clock.now()
        assert closed(client.some()) == 1008
        assert client.ended()
        assert clock.now() - start == pytest.approx(websocket.MESSAGE_SECONDS)


def test_nor_do_pings_keep_it_alive() -> None:
    with virtual_clock() as clock, echoing() as client:
        client.send(frame(TEXT, b"x", fin=False))
        start, said = clock.now(), b""
        while closed(said) is None and clock.now() < start + 60:
            gp.sleep(3)
            client.send(frame(PING))
            said = client.some()
        assert closed(said) == 1008
        assert clock.now() - start == pytest.approx(websocket.MESSAGE_SECONDS, abs=3)


@pytest.mark.parametrize("key", ["", "zz", "zz==", "dGhlIHNhbXBsZSBub25jZQ", "=" * 24])
def test_a_key_that_is_not_16_bytes_is_refused(key: str) -> None:  # RFC 6455, 4.2.1
    headers = UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", key)
    with opened() as chat, chatting(chat) as [client]:
        client.ask("/socket", headers=headers)
        assert client.response().status in (400, 426)


def test_what_goes_wrong_in_the_chat_is_told_by_1011(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reported: list[BaseException] = []
    monkeypatch.setattr(gp, "excepthook", lambda task, error: reported.append(error))
    caplog.set_level(logging.INFO, "chat.access")
    with opened() as chat, chatting(chat, 2) as (client, other):
        monkeypatch.setattr(chat.node, "publish", lambda *args: 1 / 0)
        talker, listener = Talker(client, "/socket?channel=room"), Talker(other, "/socket")
        talker.publish("hi")
        assert talker.until_closed() == 1011
        listener.say(type="ping")
        assert listener.item()["type"] == "pong"
    assert [type(error) for error in reported] == [ZeroDivisionError]
    assert "WebSocket 1011 this is the server" in caplog.text


def test_what_goes_wrong_at_the_beginning_is_told_by_1011(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[BaseException] = []
    monkeypatch.setattr(gp, "excepthook", lambda task, error: reported.append(error))
    with opened() as chat, chatting(chat) as [client]:
        monkeypatch.setattr(chat.node, "since", lambda *args: 1 / 0)
        assert Talker(client, "/socket?channel=room").until_closed() == 1011
    assert [type(error) for error in reported] == [ZeroDivisionError]


def test_a_store_that_fails_at_the_beginning_is_told_by_1013(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def down(*args: object) -> None:
        raise StoreDown("it is away")

    with opened() as chat, chatting(chat) as [client]:
        monkeypatch.setattr(chat.node, "since", down)
        assert Talker(client, "/socket?channel=room").until_closed() == 1013


def test_who_sends_on_is_told_nevertheless() -> None:
    """Bytes that nobody has read would make the close a reset, and the code be lost."""
    with opened() as chat, gp.listen(("127.0.0.1", 0)) as listener:
        server = gp.spawn(gp.serve, chat.handle_conn, listener)
        with gp.connect(listener.getsockname()) as conn:
            client = Client(conn)
            client.ask("/socket", headers=UPGRADE)
            assert client.response().status == 101
            client.send(frame(TEXT, b"x" * 3_000_000))
            assert closed(client.some()) == 1009
            assert client.ended()
        server.cancel()
        server.join()


def test_refusals_are_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "chat.access")
    with opened() as chat, chatting(chat, 5) as clients:
        clients[0].send(b"GET / HTTP/1.1\r\nwhat\r\n\r\n")
        assert clients[0].response().status == 400
        Talker(clients[1], "/socket").say(type="?\nmine")
        for client, wrong, code in [
            (clients[2], frame(BINARY, b"x"), 1003),
            (clients[3], frame(3), 1002),
            (clients[4], close(1000), 1000),
        ]:
            talker = Talker(client, "/socket")
            talker.client.send(wrong)
            assert talker.until_closed() == code
        wait_all_parked()
        assert chat.node.counters.refused == 4
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if line.startswith(" HTTP 400 not HTTP: ")]
    assert " WebSocket 400 type is none of publish, subscribe, unsubscribe, ping" in lines
    assert " WebSocket 1003 messages are texts" in lines
    assert " WebSocket 1002 Invalid opcode 0x3" in lines
    assert not [line for line in lines if "1000" in line]


def test_a_client_that_leaves_in_a_message_is_forgotten() -> None:
    with echoing() as client:
        client.send(frame(TEXT, b"hello")[:-1])
        wait_all_parked()


# -- fuzzing ---------------------------------------------------------------------------------------

FRAMES = st.builds(
    frame,
    st.sampled_from([CONT, TEXT, BINARY, CLOSE, PING, PONG, 3, 11]),
    st.binary(max_size=20)
    | st.sampled_from(
        [
            b'{"type":"publish","channel":"room","sname":"ann","msg":"hi","cid":"1"}',
            b'{"type":"subscribe","channel":"a","last":9}',
            b'{"type":"unsubscribe","channel":"a"}',
            b'{"type":"ping"}',
            b'{"type":{}}',
            b"[" * 5000,
            b'"\xf0\x9f\x98\x80"',
            b"1e999",
        ]
    ),
    fin=st.booleans() | st.just(True),
    rsv=st.just(0) | st.integers(0, 7),
    mask=st.just(True) | st.booleans(),
)


@settings(max_examples=150)
@given(data=st.lists(FRAMES | st.binary(max_size=4), max_size=12), cuts=st.booleans())
@virtual_clock()
def test_whatever_is_sent_others_get_their_messages(data: list[bytes], cuts: bool) -> None:
    with opened() as chat, chatting(chat, 2) as (fuzzer, ann):
        fuzzer.ask("/socket?channel=room&sname=ann", headers=UPGRADE)
        assert fuzzer.response().status == 101
        ann.ask("/subscribe?channel=room&sname=ann&seqid=0")
        try:
            for each in data if cuts else [b"".join(data)]:
                fuzzer.send(each)
                if cuts:
                    wait_all_parked()
        except ConnectionError:
            pass
        chat.node.publish("room", "bob", "still here")
        assert ann.response().json[-1]["type"] == "MSG"
