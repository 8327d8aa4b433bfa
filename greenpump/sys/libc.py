"""The one gate from the kernel's errno to Python's OSError.

Every call of this floor goes through a function made here, and every failure through `check` or
`error`, so no other module reads errno.

How errno is kept: both libraries are loaded with ``use_errno=True``, which makes ctypes swap errno
into a copy that belongs to the calling thread, right after the C call. It costs about a tenth
of a short call (``python -m bench.sys_calls`` prints it) and can't be done without: CPython runs
signal handlers and finalisers between any two bytecodes, and after an interrupted call it runs the
handler *before* the next line could look at the real errno. Only another failing
``use_errno`` call made by such a handler can still replace the copy; calls that sleep, where a
handler is the rule and not a rare race, must therefore not decide by errno (see `Epoll.poll`).

Two ways to call, because releasing and retaking the GIL is a good part of a short call:

- `sleeping(name)`: releases the GIL (or, on free-threaded builds, detaches the thread). For calls
  that may block.
- `quick(name)`: keeps it. For calls that return at once. It is as safe on a free-threaded build,
  which just waits for the call to return when it stops the world.

A hot function gets no ``argtypes``: converting plain ints is faster without. Its arguments are then
C ints and pointers only; anything wider is passed as a ready-made ctypes argument (``byref``,
``from_param``), which is also the fastest thing to pass.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from ctypes import get_errno
from typing import Any

__all__ = ["CFunction", "check", "error", "exists", "quick", "sleeping"]

# Whoever imports any of greenpump comes past here first, and a wheel installs everywhere.
if sys.platform != "linux":
    raise ImportError(f"greenpump needs Linux, whose epoll it is built on; this is {sys.platform}")

CFunction = Callable[..., int]

# Private instances: a ctypes function's argtypes belong to the library object it came from, so
# nobody else's declarations reach ours, nor ours theirs.
_sleeping = ctypes.CDLL(None, use_errno=True)
_quick = ctypes.PyDLL(None, use_errno=True)


def exists(name: str) -> bool:
    """Whether this libc has a function called *name*. Doesn't block."""
    return hasattr(_quick, name)


def sleeping(name: str, *argtypes: Any, restype: Any = ctypes.c_int) -> CFunction:
    """The libc function *name*, called without the GIL; for calls that may block.

    *argtypes* are the ctypes of its parameters (none: left undeclared, see the module's text) and
    *restype* the ctype of its result. Raises AttributeError when the libc lacks it.
    """
    return _declare(_sleeping, name, argtypes, restype)


def quick(name: str, *argtypes: Any, restype: Any = ctypes.c_int) -> CFunction:
    """The libc function *name*, called with the GIL held; only for calls that never block.

    Parameters and errors as for `sleeping`.
    """
    return _declare(_quick, name, argtypes, restype)


def _declare(library: ctypes.CDLL, name: str, argtypes: tuple[Any, ...], restype: Any) -> CFunction:
    function = library[name]  # an item, not an attribute: a new object, so declared once and alone
    if argtypes:
        function.argtypes = argtypes
    function.restype = restype
    return function


def check(result: int, syscall_name: str, detail: str = "") -> int:
    """Return *result*, or raise the OSError that errno stands for when it is negative.

    *syscall_name* and *detail* (such as ``"fd 7"``) go into the message. Call it at once, in the
    same thread, with what a function from `sleeping` or `quick` returned. The class is the one
    Python has for that errno: BlockingIOError, FileExistsError, ... Doesn't block. man 3 errno
    """
    if result < 0:
        raise error(get_errno(), syscall_name, detail)
    return result


def error(number: int, syscall_name: str, detail: str = "") -> OSError:
    """Make (not raise) the OSError for errno *number*, naming the call and what it was about."""
    where = f" ({detail})" if detail else ""
    return OSError(number, f"{syscall_name}: {os.strerror(number)}{where}")
