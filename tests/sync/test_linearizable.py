"""Channel under 4 hubs is linearizable: what was seen fits one order of operations, one by one.

Tasks on four hubs operate on one small channel, and each operation notes when it was called, what
it answered and when. A history is right if every operation can be given one moment between its call
and its return, so that at these moments, in this order, a plain queue gives the same answers (of a
channel without capacity: a send and its receive share one moment). An operation that was cancelled
must have done nothing. At the end the rest is drained, so a message that got lost is missed.

Source: Herlihy and Wing, Linearizability (1990); the search is Wing and Gong's (1993) with Lowe's
memory of the configurations that led nowhere (2017). Histories are small and many: the search is
exponential, and what goes wrong, goes wrong between two or three operations.
"""

from __future__ import annotations

import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count, permutations
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenpump as gp
from greenpump.sync.latch import latched

HUBS = 4
TASKS = 6
OPERATIONS = 3
ROUNDS = 250
PATIENCE = 0.002
"""Seconds until a round's tasks that still wait are cancelled: a race more."""


class Op(NamedTuple):
    """One operation: its name and message, its answer, and when it was called and returned (ns)."""

    name: str
    message: int | None
    answer: object
    called: int
    returned: int


State = tuple[tuple[int, ...], bool]
"""The messages in the buffer, and whether it is closed."""


def step(capacity: int, state: State, op: Op) -> State | None:
    """The plain queue after ``op``; None if it would have answered otherwise.

    Without capacity no message gets in here: see ``hand_over``.
    """
    buffer, closed = state
    match op.name, op.answer:
        case "send" | "try_send", "ok":
            fits = not closed and len(buffer) < capacity
            return ((*buffer, op.message or 0), False) if fits else None
        case "try_send", "full":
            return state if not closed and len(buffer) == capacity else None
        case "recv" | "try_recv", int():
            return (buffer[1:], closed) if buffer and buffer[0] == op.answer else None
        case "try_recv", "empty":
            return state if not buffer and not closed else None
        case "recv" | "try_recv", "closed":
            return state if not buffer and closed else None
        case "close", "ok":
            return None if closed else (buffer, True)
        case "send" | "try_send" | "close", "closed":
            return state if closed else None
        case "len", int():
            return state if len(buffer) == op.answer else None
    raise AssertionError(f"an answer that no queue gives: {op}")


def hand_over(state: State, send: Op, recv: Op) -> bool:
    """Whether ``recv`` may get its message from ``send``, past an empty buffer."""
    return (
        not state[0]
        and not state[1]
        and send.name in ("send", "try_send")
        and send.answer == "ok"
        and recv.name in ("recv", "try_recv")
        and recv.answer == send.message
        and (send.name, recv.name) != ("try_send", "try_recv")  # one of the two must wait
    )


def linearizable(capacity: int, history: list[Op]) -> bool:
    """Whether some order explains the history."""
    ops = [op for op in history if op.answer != "cancelled"]
    before = [
        sum(1 << place for place, other in enumerate(ops) if other.returned < op.called)
        for op in ops
    ]
    everything = (1 << len(ops)) - 1
    tried: set[tuple[int, State]] = set()
    stack: list[tuple[int, State]] = [(0, ((), False))]
    while stack:
        done, state = stack.pop()
        if done == everything:
            return True
        if (done, state) in tried:
            continue
        tried.add((done, state))
        possible = [
            place
            for place in range(len(ops))
            if not done >> place & 1 and before[place] & ~done == 0
        ]
        for place in possible:
            following = step(capacity, state, ops[place])
            if following is not None:
                stack.append((done | 1 << place, following))
            if capacity == 0:
                stack += [
                    (done | 1 << place | 1 << other, state)
                    for other in possible
                    if hand_over(state, ops[place], ops[other])
                ]
    return False


# -- the search itself -----------------------------------------------------------------------------


def op(name: str, message: int | None, answer: object, called: int, returned: int) -> Op:
    return Op(name, message, answer, called, returned)


RIGHT = {
    "in order": (1, [op("send", 1, "ok", 0, 1), op("recv", None, 1, 2, 3)]),
    "overlapping": (1, [op("recv", None, 1, 0, 9), op("send", 1, "ok", 1, 2)]),
    "two at once, either order": (
        2,
        [
            op("send", 1, "ok", 0, 5),
            op("send", 2, "ok", 0, 5),
            op("recv", None, 2, 6, 7),
            op("recv", None, 1, 8, 9),
        ],
    ),
    "one that was cancelled did nothing": (
        1,
        [op("send", 1, "cancelled", 0, 9), op("try_recv", None, "empty", 1, 2)],
    ),
    "a send that waits for room": (
        1,
        [
            op("send", 1, "ok", 0, 1),
            op("send", 2, "ok", 2, 9),
            op("recv", None, 1, 3, 4),
            op("recv", None, 2, 10, 11),
        ],
    ),
    "closed while it waited": (
        1,
        [op("recv", None, "closed", 0, 9), op("close", None, "ok", 1, 2)],
    ),
    "they meet": (0, [op("send", 1, "ok", 0, 5), op("recv", None, 1, 4, 9)]),
    "a try meets one who waits": (0, [op("send", 1, "ok", 0, 5), op("try_recv", None, 1, 4, 9)]),
}
WRONG = {
    "never sent": (1, [op("recv", None, 1, 0, 1)]),
    "sent later": (1, [op("recv", None, 1, 0, 1), op("send", 1, "ok", 2, 3)]),
    "received twice": (
        1,
        [op("send", 1, "ok", 0, 9), op("recv", None, 1, 0, 9), op("recv", None, 1, 0, 9)],
    ),
    "out of order": (
        2,
        [
            op("send", 1, "ok", 0, 1),
            op("send", 2, "ok", 2, 3),
            op("recv", None, 2, 4, 5),
            op("recv", None, 1, 6, 7),
        ],
    ),
    "lost": (1, [op("send", 1, "ok", 0, 1), op("try_recv", None, "empty", 2, 3)]),
    "sent though cancelled": (1, [op("send", 1, "cancelled", 0, 9), op("recv", None, 1, 1, 2)]),
    "more than there is room for": (1, [op("send", 1, "ok", 0, 1), op("send", 2, "ok", 2, 3)]),
    "full with room": (1, [op("try_send", 1, "full", 0, 1)]),
    "closed before the close": (
        1,
        [op("recv", None, "closed", 0, 1), op("close", None, "ok", 2, 3)],
    ),
    "sent after the close": (1, [op("close", None, "ok", 0, 1), op("send", 1, "ok", 2, 3)]),
    "closed with a message left": (
        1,
        [
            op("send", 1, "ok", 0, 1),
            op("close", None, "ok", 2, 3),
            op("recv", None, "closed", 4, 5),
        ],
    ),
    "they did not meet": (0, [op("send", 1, "ok", 0, 1), op("recv", None, 1, 2, 3)]),
    "two tries meet": (0, [op("try_send", 1, "ok", 0, 9), op("try_recv", None, 1, 0, 9)]),
    "longer than it can be": (1, [op("send", 1, "ok", 0, 1), op("len", None, 2, 2, 3)]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_history_that_is_right(name: str) -> None:
    assert linearizable(*RIGHT[name])


@pytest.mark.parametrize("name", WRONG)
def test_a_history_that_is_wrong(name: str) -> None:
    assert not linearizable(*WRONG[name])


def by_all_orders(capacity: int, history: list[Op]) -> bool:
    """The definition, word by word: is there an order in which it all fits?"""
    for order in permutations(history):
        if any(
            later.returned < earlier.called
            for place, later in enumerate(order)
            for earlier in order[:place]
        ):
            continue
        state: State | None = ((), False)
        rest = deque(order)
        while rest and state is not None:
            first = rest.popleft()
            if capacity == 0 and rest and hand_over(state, first, rest[0]):
                if max(first.called, rest[0].called) <= min(first.returned, rest[0].returned):
                    rest.popleft()
                    continue
                state = None
            else:
                state = step(capacity, state, first)
        if state is not None:
            return True
    return False


@st.composite
def histories(draw: st.DrawFn) -> list[Op]:
    answers: dict[str, list[object]] = {
        "send": ["ok", "closed"],
        "try_send": ["ok", "ok", "full"],
        "recv": [0, 1, 2, "closed"],
        "try_recv": [0, 1, "empty"],
        "close": ["ok", "closed"],
        "len": [0, 1],
    }
    found = []
    for message in range(draw(st.integers(1, 5))):
        name = draw(st.sampled_from(["send", "send", "recv", "recv", *answers]))
        called = draw(st.integers(0, 8))
        returned = called + draw(st.integers(0, 6))
        sends = name.endswith("send")
        answer = draw(st.sampled_from(answers[name]))
        found.append(Op(name, message if sends else None, answer, called, returned))
    return found


@settings(max_examples=600)
@given(capacity=st.integers(0, 2), history=histories())
def test_the_search_finds_what_trying_all_orders_finds(capacity: int, history: list[Op]) -> None:
    assert linearizable(capacity, history) == by_all_orders(capacity, history)


# -- histories of a real channel -------------------------------------------------------------------


class Recorder:
    """Operates on a channel and notes what came of it. One for each round."""

    def __init__(self, channel: gp.Channel[int]) -> None:
        self.channel = channel
        self.history: list[Op] = []  # list.append is atomic, with and without the GIL
        self._messages = count(1)

    def do(self, name: str, patience: float | None = None) -> None:
        message = next(self._messages) if name.endswith("send") else None
        answer: object = "cancelled"
        called = time.monotonic_ns()
        try:
            with gp.move_on_after(patience):
                answer = self._answer(name, message or 0)
        except gp.ChannelClosed:
            answer = "closed"
        finally:
            returned = time.monotonic_ns()
            self.history.append(Op(name, message, answer, called, returned))

    def _answer(self, name: str, message: int) -> object:
        channel = self.channel
        match name:
            case "send" if random.random() < 0.3:
                gp.select(gp.sending(channel, message))
                return "ok"
            case "send":
                channel.send(message)
                return "ok"
            case "recv" if random.random() < 0.3:
                _, got = gp.select(gp.receiving(channel))
                return "closed" if got is gp.CLOSED else got
            case "recv":
                return channel.recv()
            case "try_send":
                return "ok" if channel.try_send(message) else "full"
            case "try_recv":
                got = channel.try_recv()
                return "empty" if got is None else got
            case "len":
                return len(channel)
        channel.close()
        return "ok"


def script(names: list[str], recorder: Recorder, patience: float | None) -> None:
    for name in names:
        recorder.do(name, patience)


MIX = ["send"] * 4 + ["recv"] * 4 + ["try_send", "try_recv", "len"]


def one_round(channel: gp.Channel[int], close: bool, cancel: bool) -> list[Op]:
    recorder = Recorder(channel)
    tasks = []
    for who in range(TASKS):
        names = random.choices(MIX, k=OPERATIONS)
        if close and who == 0:
            names[-1] = "close"
        patience = random.choice([None, 0.0001, 0.0003]) if cancel else None
        hub = gp.hubs()[who % HUBS]
        tasks.append(gp.spawn_on(hub, script, names, recorder, patience))
    for task in tasks:
        if not task.join(PATIENCE):
            task.cancel()
    for task in tasks:
        task.join()
        assert task.done
        assert task.error is None or task.cancelled, task.error
    while not recorder.history or recorder.history[-1].answer not in ("empty", "closed"):
        recorder.do("try_recv")
    return recorder.history


def rounds(
    make: Callable[[int], gp.Channel[int]], capacity: int, close: bool, cancel: bool, number: int
) -> Iterator[list[Op]]:
    """The histories that no order explains."""
    wrong: list[list[Op]] = []

    def main() -> None:
        for _ in range(number):
            history = one_round(make(capacity), close, cancel)
            if not linearizable(capacity, history):
                wrong.append(history)
                return

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # with the GIL: let threads meet in the middle of an operation
    try:
        gp.run(main, hubs=HUBS)
    finally:
        sys.setswitchinterval(interval)
    yield from wrong


def described(history: list[Op]) -> str:
    start = min(op.called for op in history)
    lines = [
        f"{op.called - start:>9} … {op.returned - start:>9} ns  {op.name}"
        f"({'' if op.message is None else op.message}) -> {op.answer}"
        for op in sorted(history, key=lambda op: op.called)
    ]
    return "no order explains this:\n" + "\n".join(lines)


@pytest.mark.parametrize("cancel", [False, True], ids=["", "cancels"])
@pytest.mark.parametrize("close", [False, True], ids=["", "close"])
@pytest.mark.parametrize("capacity", [0, 1, 2])
def test_a_channel_under_four_hubs(capacity: int, close: bool, cancel: bool) -> None:
    for history in rounds(gp.Channel, capacity, close, cancel, ROUNDS):
        pytest.fail(described(history))


# -- and of broken ones ----------------------------------------------------------------------------


def pause() -> None:
    """Let another thread in, here of all places."""
    time.sleep(0)


class Overtaking(gp.Channel[int]):
    """The last message comes first."""

    __slots__ = ()

    def _get(self) -> tuple[Any, Any]:
        self._buffer.reverse()
        try:
            return super()._get()
        finally:
            self._buffer.reverse()


class Doubling(gp.Channel[int]):
    """Looks at the first message and takes it away later, without the lock."""

    __slots__ = ()

    def try_recv(self, default: Any = None) -> Any:
        if not self._buffer or self._senders:
            return super().try_recv(default)
        message = self._buffer[0]
        pause()
        if self._buffer:
            self._buffer.popleft()
        return message


class Hesitating(gp.Channel[int]):
    """Says that it has sent before it has."""

    __slots__ = ("_late",)

    def try_send(self, value: int) -> bool:
        late: int | None = getattr(self, "_late", None)
        if late is None:
            self._late: int | None = value
            return True
        self._late = None
        super().try_send(late)
        return super().try_send(value)


class Overfull(gp.Channel[int]):
    """Has one place more than it says."""

    __slots__ = ()

    def try_send(self, value: int) -> bool:
        return latched(self._latch, self._squeeze_in, value) or super().try_send(value)

    def _squeeze_in(self, value: int) -> bool:
        if self._receivers or len(self._buffer) != self._capacity or self._closed:
            return False
        self._buffer.append(value)
        return True


class Forgetful(gp.Channel[int]):
    """A receiver whose limit passes as it gets its message loses it."""

    __slots__ = ()

    def recv(self) -> int:
        message = super().recv()
        gp.sleep(0.0002)
        return message


@pytest.mark.parametrize("broken", [Overtaking, Doubling, Hesitating, Overfull, Forgetful])
def test_a_broken_channel_is_caught(broken: type[gp.Channel[int]]) -> None:
    found = list(rounds(broken, 2, False, True, 40 * ROUNDS))
    assert found, "no history shows the fault"
    assert described(found[0]).count("->") == len(found[0])
