"""``struct timespec`` and ``struct itimerspec``: seconds and nanoseconds as C longs."""

from __future__ import annotations

import struct

__all__ = ["NANOSECONDS", "pack_itimerspec", "pack_timespec", "unpack_itimerspec"]

NANOSECONDS = 1_000_000_000

# The libc's functions of these plain names take a time_t of one long, on 32 bits too: there the
# variants with a 64-bit time_t have other symbol names.
_timespec = struct.Struct("@ll")
_itimerspec = struct.Struct("@llll")


def pack_timespec(ns: int) -> bytes:
    """*ns* nanoseconds as a struct timespec. Raises OverflowError beyond what it can hold."""
    try:
        return _timespec.pack(*divmod(ns, NANOSECONDS))
    except struct.error:
        raise OverflowError(f"time too far: {ns} ns") from None


def pack_itimerspec(value_ns: int, interval_ns: int) -> bytes:
    """First expiration and interval as a struct itimerspec. Raises OverflowError likewise."""
    try:
        return _itimerspec.pack(*divmod(interval_ns, NANOSECONDS), *divmod(value_ns, NANOSECONDS))
    except struct.error:
        raise OverflowError(f"time too far: {value_ns} ns, then each {interval_ns} ns") from None


def unpack_itimerspec(raw: bytes) -> tuple[int, int]:
    """``(value_ns, interval_ns)`` of a struct itimerspec."""
    interval_s, interval_ns, value_s, value_ns = _itimerspec.unpack(raw)
    return value_s * NANOSECONDS + value_ns, interval_s * NANOSECONDS + interval_ns
