"""Both parsers, held to the same: what is a request, what is not, and how much is too much."""

from __future__ import annotations

import platform
import sys
import sysconfig
from collections.abc import Callable
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.chat.http.draft import MAX_BODY, MAX_HEAD
from examples.chat.http.h11_parser import H11Parser
from examples.chat.http.parser import Parser, new_parser

PARSERS: list[Callable[[], Parser]] = [H11Parser]
if find_spec("httptools"):
    from examples.chat.http.httptools_parser import HttptoolsParser

    PARSERS.append(HttptoolsParser)
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

each_parser = pytest.mark.parametrize("new", PARSERS)

GET = b"GET /a?b=1 HTTP/1.1\r\nHost: here\r\nX-One: 1\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"POST /c HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: x\r\n\r\n"
)


def status(parser: Parser) -> int | None:
    return parser.error.status if parser.error else None


def test_the_parser_in_c_is_preferred() -> None:
    # Where pyproject.toml asks for it, it must be there; a build without the GIL may have no wheel.
    wanted = platform.machine() in ("x86_64", "aarch64") and not FREE_THREADED
    assert type(new_parser()) is PARSERS[-1]
    assert len(PARSERS) == 2 or not wanted


def test_h11_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httptools", None)
    monkeypatch.delitem(sys.modules, "examples.chat.http.httptools_parser", raising=False)
    assert type(new_parser()) is H11Parser


@each_parser
def test_a_request(new: Callable[[], Parser]) -> None:
    parser = new()
    started = [parser.started]
    parser.feed(GET[:20])
    started.append(parser.started)
    assert not parser.complete
    parser.feed(GET[20:])
    started.append(parser.started)
    assert started == [False, True, False]
    [request] = parser.complete
    assert (request.method, request.target) == ("GET", "/a?b=1")
    assert (request.path, request.query) == ("/a", {"b": "1"})
    assert request.headers == {"host": "here", "x-one": "1"}
    assert request.keep_alive
    assert request.body == b""


@each_parser
@given(cuts=st.lists(st.integers(0, len(GET + POST + CHUNKED)), max_size=8))
def test_pipelined_requests_come_in_order_however_they_are_cut(
    new: Callable[[], Parser], cuts: list[int]
) -> None:
    data, parser, start = GET + POST + CHUNKED + GET, new(), 0
    for cut in [*sorted(cuts), len(data)]:
        if cut > start:
            parser.feed(data[start:cut])
            start = cut
    assert parser.error is None
    assert [(r.method, r.target, r.body) for r in parser.complete] == [
        ("GET", "/a?b=1", b""),
        ("POST", "/p", b"hello"),
        ("POST", "/c", b"hello"),
        ("GET", "/a?b=1", b""),
    ]
    assert all(request.keep_alive for request in parser.complete)
    assert not parser.started


@each_parser
@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n", False),
        (b"GET / HTTP/1.0\r\n", False),
    ],
)
def test_keep_alive(new: Callable[[], Parser], head: bytes, keep_alive: bool) -> None:
    parser = new()
    parser.feed(head + b"\r\n")
    assert parser.complete[0].keep_alive is keep_alive


@each_parser
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: \x00\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        # RFC 9112, 6.1: a request is smuggled in
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Length: 5\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 16385\r\n\r\n", 413),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
            b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: a-pony\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"x" * (MAX_HEAD + 1), 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * MAX_HEAD, 431),
    ],
)
def test_what_is_wrong_gets_its_status(
    new: Callable[[], Parser], data: bytes, expected: int
) -> None:
    parser = new()
    parser.feed(data)
    assert status(parser) == expected
    parser.feed(GET)  # there is no next
    assert not parser.complete


@each_parser
@pytest.mark.parametrize("size", [MAX_BODY, MAX_BODY + 1])
def test_a_chunked_body_has_the_same_limit(new: Callable[[], Parser], size: int) -> None:
    parser = new()
    parser.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(size):
        parser.feed(b"1\r\nx\r\n")
    parser.feed(b"0\r\n\r\n")
    assert status(parser) == (413 if size > MAX_BODY else None)
    assert [len(request.body) for request in parser.complete] == [MAX_BODY][: size == MAX_BODY]


@each_parser
def test_what_nobody_looks_at_is_limited_too(new: Callable[[], Parser]) -> None:
    parser = new()
    parser.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(100):
        parser.feed(b"1;" + b"x" * 2000 + b"\r\nx\r\n")
    assert parser.error is not None
    assert not parser.complete


@each_parser
def test_a_fault_behind_a_good_request_spoils_only_what_follows(
    new: Callable[[], Parser],
) -> None:
    parser = new()
    parser.feed(GET + b"\x16\x03\x01 rubbish\r\n\r\n")
    assert len(parser.complete) == 1
    assert parser.error is not None


@each_parser
def test_what_follows_an_upgrade_is_left_alone(new: Callable[[], Parser]) -> None:
    parser = new()
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    parser.feed(head + b"\x81\x80")
    assert parser.rest == b"\x81\x80"
    [request] = parser.complete
    assert request.path == "/"
    assert not request.keep_alive  # what follows need not be HTTP


@each_parser
@pytest.mark.parametrize(
    ("framing", "sent", "body"),
    [
        (b"Content-Length: 2", b"hi", b"hi"),
        (b"Transfer-Encoding: chunked", b"2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n", b"hi!"),
        (b"Content-Length: 0", b"", b""),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_an_offer_of_h2c_leaves_the_body_alone(
    new: Callable[[], Parser], framing: bytes, sent: bytes, body: bytes, step: int
) -> None:
    parser = new()
    head = b"PUT /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    data = head + framing + b"\r\n\r\n" + sent
    for start in range(0, len(data), step):
        assert not parser.complete
        parser.feed(data[start : start + step])
    [request] = parser.complete
    assert (request.method, request.path, request.body) == ("PUT", "/x", body)
    assert not request.keep_alive


@each_parser
def test_expect_100_continue(new: Callable[[], Parser]) -> None:
    parser = new()
    parser.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    wanted = [parser.wants_continue]
    parser.feed(b"h")
    wanted.append(parser.wants_continue)
    assert wanted == [True, False]
    parser.feed(b"i")
    assert parser.complete[0].body == b"hi"


@each_parser
def test_http_1_0_knows_no_100(new: Callable[[], Parser]) -> None:
    for expectation in (b"100-continue", b"a-pony"):
        parser = new()
        head = b"POST / HTTP/1.0\r\nContent-Length: 2\r\nExpect: %b\r\n\r\n" % expectation
        parser.feed(head)
        assert not parser.wants_continue
        parser.feed(b"hi")
        assert parser.complete[0].body == b"hi"


@each_parser
@given(data=st.binary(max_size=200), cut=st.integers(0, 200), good=st.booleans())
def test_any_bytes_get_an_answer_or_wait_for_more(
    new: Callable[[], Parser], data: bytes, cut: int, good: bool
) -> None:
    parser = new()
    data = (GET if good else b"") + data
    for part in (data[:cut], data[cut:]):
        if part:
            parser.feed(part)
    assert len(parser.complete) >= good
    if parser.error is not None:
        assert 400 <= parser.error.status < 600


def test_the_query_is_strict_about_utf_8() -> None:
    parser = new_parser()
    parser.feed(b"GET /?a=%ff HTTP/1.1\r\nHost: h\r\n\r\n")
    with pytest.raises(Exception, match="400 the query is not UTF-8"):
        _ = parser.complete[0].query
