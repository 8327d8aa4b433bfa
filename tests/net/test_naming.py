"""Addresses as people read them."""

from __future__ import annotations

from typing import Any

import pytest

from greenpump.net.naming import show


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
