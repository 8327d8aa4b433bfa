"""The two layouts of ``struct epoll_event``.

The kernel declares it packed on x86 (12 bytes). Elsewhere it is natural (16 bytes): the 64-bit data
is aligned, which leaves a hole.

    packed    events:32 data:64
    natural   events:32 hole:32 data:64

Either way the buffer is read as 32-bit words, by C code, and turned into three words an event:
``events, data_low32, data_high32``. The packed little-endian words are that already.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

__all__ = ["NATURAL_BIG", "NATURAL_LITTLE", "PACKED", "Layout", "layout_for"]


class Layout:
    """One layout of ``struct epoll_event``, in one byte order.

    `size` is the bytes an event takes, `words` the 32-bit words, and `flatten` what turns the words
    of whole events into three an event, or None when they are that already.
    """

    __slots__ = ("codec", "flatten", "name", "size", "words")

    def __init__(
        self, name: str, code: str, flatten: Callable[[list[int]], list[int]] | None
    ) -> None:
        self.name = name
        self.codec = struct.Struct(code)
        self.size = self.codec.size
        self.words = self.size // 4
        self.flatten = flatten

    def __repr__(self) -> str:
        return f"<Layout {self.name}>"

    def pack(self, events: int, data: int) -> bytes:
        """One event as the kernel wants it. Raises ValueError when a number doesn't fit."""
        try:
            return self.codec.pack(events, data)
        except struct.error:
            raise ValueError(
                f"events must be an unsigned 32-bit int and data an unsigned 64-bit int: "
                f"{events!r}, {data!r}"
            ) from None

    def unpack(self, buffer: memoryview) -> list[tuple[int, int]]:
        """The ``(events, data)`` of each event in *buffer*, which holds whole events."""
        return list(self.codec.iter_unpack(buffer))


def _without_hole(words: list[int]) -> list[int]:
    del words[1::4]
    return words


def _without_hole_swapped(words: list[int]) -> list[int]:
    del words[1::4]
    words[1::3], words[2::3] = words[2::3], words[1::3]  # big-endian: the high half comes first
    return words


PACKED = Layout("packed", "<IQ", None)
NATURAL_LITTLE = Layout("natural", "<I4xQ", _without_hole)
NATURAL_BIG = Layout("natural, big-endian", ">I4xQ", _without_hole_swapped)


def layout_for(machine: str, byteorder: str) -> Layout:
    """The layout of *machine* (as ``os.uname().machine`` says) and *byteorder* (``sys.byteorder``).

    A 32-bit x86 process needs no case of its own: it aligns 64-bit members to 4, so its natural
    layout is the packed one.
    """
    if machine == "x86_64" or (machine[:1] == "i" and machine[2:] == "86"):
        return PACKED
    return NATURAL_LITTLE if byteorder == "little" else NATURAL_BIG
