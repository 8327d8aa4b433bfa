from __future__ import annotations

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenpump.sys.timespec import pack_itimerspec, pack_timespec, unpack_itimerspec


class Timespec(ctypes.Structure):
    _fields_ = (("sec", ctypes.c_long), ("nsec", ctypes.c_long))


class Itimerspec(ctypes.Structure):
    _fields_ = (("interval", Timespec), ("value", Timespec))


times = st.integers(0, (1 << 31) * 1_000_000_000 - 1)


@given(times)
def test_timespec_is_the_c_struct(ns: int) -> None:
    assert pack_timespec(ns) == bytes(Timespec(ns // 10**9, ns % 10**9))


@given(times, times)
def test_itimerspec_is_the_c_struct_and_comes_back(value: int, interval: int) -> None:
    raw = pack_itimerspec(value, interval)
    expected = Itimerspec(
        Timespec(interval // 10**9, interval % 10**9), Timespec(value // 10**9, value % 10**9)
    )
    assert raw == bytes(expected)
    assert unpack_itimerspec(raw) == (value, interval)


def test_beyond_what_a_long_of_seconds_holds() -> None:
    with pytest.raises(OverflowError, match="time too far"):
        pack_timespec((1 << 63) * 1_000_000_000)
    with pytest.raises(OverflowError, match="time too far"):
        pack_itimerspec((1 << 63) * 1_000_000_000, 0)
