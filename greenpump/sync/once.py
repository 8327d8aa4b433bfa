"""Once: what is to happen only once, whoever asks first.

Invariants
----------
1. ``_done`` goes from False to True once, before the mutex is released: who saw it True sees all
   that the function did.
2. The function runs under the mutex: callers that come meanwhile wait in line and find it done.
3. An Exception ends the function as a return does (Go's panic). What is none (Cancelled,
   KeyboardInterrupt) ended its caller rather than the function: the next in line calls its own.

Rejected: counting a cancelled call as done (the first client hangs up while the pool is being
opened, and no other ever gets one).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from types import TracebackType
from typing import ParamSpec, TypeVar

from greenlet import getcurrent, greenlet

from ..hub.interrupt import calls_user_code
from .mutex import Mutex

P = ParamSpec("P")
T = TypeVar("T")


class Once:
    """``once.do(fn)`` calls ``fn`` at the first call; later ones do nothing.

    Usable from tasks of any hub and from any thread. Source: Go's sync.Once.
    """

    __slots__ = ("__weakref__", "_caller", "_done", "_mutex")

    def __init__(self) -> None:
        self._mutex = Mutex()
        self._done = False
        self._caller: greenlet | None = None

    @calls_user_code
    def do(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call ``fn(*args, **kwargs)`` unless a call through this Once has ended already.

        Parks while another task is in such a call: when ``do`` returns, it has ended. What ``fn``
        raises goes to its own caller, and counts as an end if it is an Exception; after a cancel
        the next caller begins again. Raises RuntimeError when ``fn`` itself calls ``do`` (Go hangs
        there), Cancelled.
        """
        if self._done:
            return
        me = getcurrent()
        if self._caller is me:
            raise RuntimeError(f"what {self!r} calls has called its do() again: it can never end")
        with self._mutex:
            if self.done():
                return
            self._caller = me
            try:
                fn(*args, **kwargs)
            except Exception:
                self._done = True
                raise
            else:
                self._done = True
            finally:
                self._caller = None

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._done

    def __repr__(self) -> str:
        state = "done" if self._done else "not done" if self._caller is None else "in the call"
        return f"<Once at {id(self):#x}: {state}>"


def once_value(fn: Callable[[], T]) -> Callable[[], T]:
    """A function that calls ``fn`` once, at its first call, and returns its value each time.

    Callers that come meanwhile park. If ``fn`` raises an Exception, that is raised at each call.
    After a cancel the next caller begins again. Also a decorator::

        @gp.once_value
        def pool() -> Pool: ...

    Raises TypeError when ``fn`` is not callable. Source: Go's sync.OnceValue.
    """
    if not callable(fn):
        raise TypeError(f"once_value needs a callable, not {fn!r}")
    once = Once()
    call: Callable[[], T] | None = fn
    value: T
    error: Exception | None = None
    traceback: TracebackType | None = None

    @calls_user_code
    def keep() -> None:
        nonlocal call, value, error, traceback
        assert call is not None
        try:
            value = call()
        except Exception as raised:
            error = raised
            traceback = raised.__traceback__
        call = None  # and all that only it refers to

    @calls_user_code
    def get() -> T:
        if not once._done:
            once.do(keep)
        if error is not None:
            # Each raise adds its own frames to the traceback that fn left.
            raise error.with_traceback(traceback)
        return value

    update_wrapper(get, fn)
    del get.__wrapped__  # type: ignore[attr-defined]
    return get
