"""Both layouts on whatever machine runs this, against the C compiler, ctypes and each other."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenpump.sys import epoll_event
from greenpump.sys.epoll_event import NATURAL_BIG, NATURAL_LITTLE, PACKED, Layout, layout_for

ORDERS = {PACKED: "<", NATURAL_LITTLE: "<", NATURAL_BIG: ">"}
LAYOUTS = [PACKED, NATURAL_LITTLE, NATURAL_BIG]

C_SOURCE = r"""
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

struct natural { uint32_t events; uint64_t data __attribute__((aligned(8))); };
struct packed { uint32_t events; uint64_t data; } __attribute__((packed));

#define EMIT(TYPE, MEMBER) do { \
        TYPE event; \
        memset(&event, 0, sizeof event); \
        event.events = 0x80002001u; \
        event.MEMBER = 0x1122334455667788u; \
        fwrite(&event, sizeof event, 1, stdout); \
    } while (0)

int main(void) {
    EMIT(struct packed, data);
    EMIT(struct natural, data);
    EMIT(struct epoll_event, data.u64);
    return 0;
}
"""
EVENTS, DATA = 0x80002001, 0x1122334455667788

some_events = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)), min_size=0, max_size=20
)


class Natural(ctypes.LittleEndianStructure):
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


class NaturalSwapped(ctypes.BigEndianStructure):
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


class Packed(ctypes.LittleEndianStructure):
    _pack_ = 1
    _layout_ = "ms"  # what _pack_ implies; 3.14 wants it said
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


STRUCTURES: dict[Layout, Callable[[int, int], ctypes.Structure]] = {
    PACKED: Packed,
    NATURAL_LITTLE: Natural,
    NATURAL_BIG: NaturalSwapped,
}


def words_of(layout: Layout, buffer: bytes) -> list[int]:
    """The buffer as a machine of that byte order sees it: 32-bit words."""
    return list(struct.unpack(f"{ORDERS[layout]}{len(buffer) // 4}I", buffer))


@pytest.mark.parametrize(
    ("layout", "size"), [(PACKED, 12), (NATURAL_LITTLE, 16), (NATURAL_BIG, 16)]
)
def test_sizes(layout: Layout, size: int) -> None:
    assert layout.size == size == layout.words * 4
    assert repr(layout) == f"<Layout {layout.name}>"


@pytest.mark.parametrize("layout", LAYOUTS)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_pack_is_the_c_struct(layout: Layout, events: int, data: int) -> None:
    assert layout.pack(events, data) == bytes(STRUCTURES[layout](events, data))


@pytest.mark.parametrize("layout", LAYOUTS)
@given(some_events)
def test_unpack_returns_what_was_packed(layout: Layout, some: list[tuple[int, int]]) -> None:
    buffer = b"".join(layout.pack(*event) for event in some)
    assert layout.unpack(memoryview(buffer)) == some


@pytest.mark.parametrize("layout", LAYOUTS)
@given(some_events)
def test_words_flatten_to_three_an_event(layout: Layout, some: list[tuple[int, int]]) -> None:
    words = words_of(layout, b"".join(layout.pack(*event) for event in some))
    flat = words if layout.flatten is None else layout.flatten(words)
    expected = [word for events, data in some for word in (events, data & 0xFFFFFFFF, data >> 32)]
    assert flat == expected


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("events", "data"), [(-1, 0), (1 << 32, 0), (0, -1), (0, 1 << 64)])
def test_numbers_that_do_not_fit_are_refused(layout: Layout, events: int, data: int) -> None:
    with pytest.raises(ValueError, match="unsigned 32-bit int and data an unsigned 64-bit int"):
        layout.pack(events, data)


@pytest.mark.parametrize(
    ("machine", "byteorder", "layout"),
    [
        ("x86_64", "little", PACKED),
        ("i686", "little", PACKED),
        ("i386", "little", PACKED),
        ("aarch64", "little", NATURAL_LITTLE),
        ("armv7l", "little", NATURAL_LITTLE),
        ("riscv64", "little", NATURAL_LITTLE),
        ("ppc64le", "little", NATURAL_LITTLE),
        ("ia64", "little", NATURAL_LITTLE),
        ("s390x", "big", NATURAL_BIG),
        ("ppc64", "big", NATURAL_BIG),
    ],
)
def test_each_machine_has_its_layout(machine: str, byteorder: str, layout: Layout) -> None:
    assert layout_for(machine, byteorder) is layout


def test_the_c_compiler_agrees(tmp_path: Path, require: Callable[[str, object, str], None]) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    require("a C compiler", compiler, "apt-get install gcc libc6-dev")
    assert compiler is not None
    (tmp_path / "layouts.c").write_text(C_SOURCE)
    program = tmp_path / "layouts"
    subprocess.run([compiler, "-o", program, tmp_path / "layouts.c"], check=True)
    said = subprocess.run([program], check=True, capture_output=True).stdout
    mine = layout_for(os.uname().machine, sys.byteorder)
    natural = NATURAL_LITTLE if sys.byteorder == "little" else NATURAL_BIG
    packed = struct.pack("=IQ", EVENTS, DATA)
    assert said == packed + natural.pack(EVENTS, DATA) + mine.pack(EVENTS, DATA)


def test_the_layout_in_use_is_this_machines() -> None:
    from greenpump.sys import epoll

    assert epoll._LAYOUT is epoll_event.layout_for(os.uname().machine, sys.byteorder)
