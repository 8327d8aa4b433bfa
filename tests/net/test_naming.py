"""Addresses as people read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from greenpump.net.naming import show, unix_path


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (("192.0.2.1", 80), "192.0.2.1:80"),
        (("::1", 80), "[::1]:80"),
        (("fe80::1", 80, 0, 2), "[fe80::1]:80"),
        (("some.example", "http"), "some.example:http"),
        ((b"some.example", 80), "some.example:80"),
        (("", 80), "*:80"),
        ((None, 80), "*:80"),
        ("/run/x.sock", "unix:/run/x.sock"),
        (b"/run/x.sock", "unix:/run/x.sock"),
        ("\0abstract", "unix:@abstract"),
        (b"\0abstract", "unix:@abstract"),
        ("", "unix:(unnamed)"),
        (b"", "unix:(unnamed)"),
        (None, "None"),
        ((), "()"),
    ],
)
def test_an_address_is_shown(address: Any, shown: str) -> None:
    assert show(address) == shown


@pytest.mark.parametrize(
    ("addr", "say"),
    [
        ("127.0.0.1:8000", r"\('127\.0\.0\.1', 8000\), for that path '\./127\.0\.0\.1:8000'"),
        (b"localhost:80", r"\('localhost', 80\)"),
        ("[::1]:80", r"\('::1', 80\)"),
        (":8080", r"\('', 8080\)"),
    ],
)
def test_host_and_port_in_one_string_are_no_path(addr: str | bytes, say: str) -> None:
    with pytest.raises(ValueError, match=f"for TCP say {say}"):
        unix_path(addr)


@pytest.mark.parametrize(
    "addr",
    ["/run/x:1", "./x:1", "x", "x:", "x:y", "\0x:1", b"\0x:1", b"/x", "", Path("x:1")],
    ids=repr,
)
def test_a_path_is_taken_as_it_is(addr: str | bytes | Path) -> None:
    assert unix_path(addr) == (str(addr) if isinstance(addr, Path) else addr)
