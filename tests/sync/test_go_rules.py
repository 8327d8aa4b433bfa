"""Go's specification of channels and select, sentence by sentence, and that it holds here.

A row is a section, its sentence, and what shows it: a check below, or the test elsewhere that does
(named, so that it can't be removed unnoticed). Where Python's idiom differs, the row says how.
Sources: The Go Programming Language Specification (go1.24) and The Go Memory Model.
"""

from __future__ import annotations

import ast
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import greenpump as gp
from greenpump.testing import races, wait_all_parked


class Rule(NamedTuple):
    section: str
    sentence: str
    shown_by: Callable[[], None] | str
    here: str = ""
    """How greenpump says it, where that is not Go's way."""


def parks(fn: Callable[[], object]) -> bool:
    """Whether ``fn()`` lets another task run."""
    ran: list[bool] = []
    other = gp.spawn(ran.append, True)
    fn()
    parked = bool(ran)
    other.join()
    return parked


def blocks_for_ever(fn: Callable[[], object]) -> None:
    task = gp.spawn(fn)
    wait_all_parked()
    assert not task.done
    task.cancel()
    task.join()


def uniform(counts: Counter[int], weights: dict[int, float]) -> bool:
    """Pearson's chi-square against the weights; a true hypothesis fails once in 100,000 runs."""
    assert set(counts) <= set(weights)
    total, whole = sum(counts.values()), sum(weights.values())
    bound = {1: 19.5, 2: 23.0, 3: 25.9, 4: 28.5}[len(weights) - 1]
    return bound > sum(
        (counts[key] - total * weight / whole) ** 2 / (total * weight / whole)
        for key, weight in weights.items()
    )


# -- Channel types ---------------------------------------------------------------------------------


def unbuffered_needs_both() -> None:
    channel = gp.Channel[int]()
    blocks_for_ever(lambda: channel.send(1))
    blocks_for_ever(channel.recv)
    receiver = gp.spawn(channel.recv)
    wait_all_parked()
    channel.send(2)
    assert receiver.result() == 2


def buffered_does_not_block() -> None:
    channel = gp.Channel[int](2)
    assert not parks(lambda: (channel.send(1), channel.send(2)))
    assert not parks(lambda: (channel.recv(), channel.recv()))
    blocks_for_ever(channel.recv)


def fifo() -> None:
    for capacity in range(4):
        channel = gp.Channel[int](capacity)

        def send_all(channel: gp.Channel[int] = channel) -> None:
            for number in range(50):
                channel.send(number)
            channel.close()

        gp.spawn(send_all)
        received = []
        for number in channel:
            received.append(number)
        assert received == list(range(50))


# -- Send statements, Receive operator, Close ------------------------------------------------------


def a_send_evaluates_before_it_communicates() -> None:
    channel = gp.Channel[list[int]](1)
    box = [1]
    task = gp.spawn(channel.send, box)
    wait_all_parked()
    assert channel.recv() is box
    task.join()


def closed_proceeds_at_once_and_always() -> None:
    channel = gp.Channel[str](2)
    channel.send("first")
    channel.close()
    assert channel.recv() == "first"

    def again() -> None:
        for _ in range(3):
            with pytest.raises(gp.ChannelClosed):
                channel.recv()
            with pytest.raises(gp.ChannelClosed):
                channel.try_recv()
            assert gp.select(gp.receiving(channel)) == (0, gp.CLOSED)

    assert not parks(again)


def ok_tells_a_sent_zero_value_from_the_end() -> None:
    channel = gp.Channel[None](1)
    channel.send(None)
    channel.close()
    assert gp.select(gp.receiving(channel)) == (0, None)
    assert gp.select(gp.receiving(channel)) == (0, gp.CLOSED)


def send_and_close_on_closed_panic_in_every_form() -> None:
    channel = gp.Channel[int](5)
    channel.close()
    sends: list[Callable[[], object]] = [
        lambda: channel.send(1),
        lambda: channel.try_send(1),
        lambda: gp.select(gp.sending(channel, 1)),
        lambda: gp.select(gp.sending(channel, 1), timeout=0),
        channel.close,
    ]
    for send in sends:
        with pytest.raises(gp.ChannelClosed):
            send()
    assert len(channel) == 0


# -- Length and capacity ---------------------------------------------------------------------------


@races(seeds=100)
def len_is_between_0_and_cap() -> None:
    capacity = random.randrange(3)
    channel = gp.Channel[int](capacity)
    seen = []

    def look() -> None:
        for _ in range(20):
            seen.append(len(channel))
            gp.yield_now()

    with gp.Group() as group:
        group.spawn(look)
        for number in range(4):
            group.spawn(channel.send, number)
        for _ in range(4):
            group.spawn(channel.recv)
    assert all(0 <= length <= channel.capacity == capacity for length in seen)


def len_counts_no_waiting_sender() -> None:
    channel = gp.Channel[int]()
    sender = gp.spawn(channel.send, 1)
    wait_all_parked()
    assert len(channel) == 0 == channel.capacity
    assert channel.recv() == 1
    sender.join()


# -- Select statements -----------------------------------------------------------------------------


def operands_are_evaluated_once_in_order_whichever_is_chosen() -> None:
    evaluated = []
    channels = {name: gp.Channel[str](1) for name in "abc"}

    def operand(name: str) -> gp.Channel[str]:
        evaluated.append(name)
        return channels[name]

    def value(name: str) -> str:
        evaluated.append(f"value of {name}")
        return name

    for _ in range(20):
        evaluated.clear()
        number, _ = gp.select(
            gp.receiving(operand("a")),
            gp.sending(operand("b"), value("b")),
            gp.sending(operand("c"), value("c")),
        )
        assert evaluated == ["a", "b", "value of b", "c", "value of c"]
        channels["abc"[number]].recv()


def uniform_over_cases_of_every_kind() -> None:
    """Parked senders and receivers, buffers, a closed channel: all are ready, none is preferred."""
    rounds = 4000
    counts: Counter[int] = Counter()
    closed = gp.Channel[int]()
    closed.close()
    event = gp.Event()
    event.set()
    full, room = gp.Channel[int](1), gp.Channel[int](1)
    from_parked = gp.Channel[int]()
    senders = [gp.spawn(from_parked.send, number) for number in range(rounds)]
    wait_all_parked()
    full.send(0)
    for _ in range(rounds):
        number, _ = gp.select(
            gp.receiving(full),
            gp.sending(room, 0),
            gp.receiving(closed),
            event,
            gp.receiving(from_parked),
        )
        counts[number] += 1
        if number == 0:
            full.send(0)
        elif number == 1:
            room.recv()
    for task in senders:
        task.cancel()
        task.join()
    assert uniform(counts, dict.fromkeys(range(5), 1.0)), counts


def a_channel_named_twice_has_two_chances() -> None:
    counts: Counter[int] = Counter()
    twice, once = gp.Channel[int](1), gp.Channel[int](1)
    twice.send(0)
    once.send(0)
    for _ in range(3000):
        number, _ = gp.select(gp.receiving(twice), gp.receiving(once), gp.receiving(twice))
        counts[0 if number == 1 else 1] += 1
        (once if number == 1 else twice).send(0)
    assert uniform(counts, {0: 1.0, 1: 2.0}), counts


def both_directions_of_one_channel() -> None:
    channel = gp.Channel[int](1)
    number, _ = gp.select(gp.receiving(channel), gp.sending(channel, 5))
    assert number == 1
    assert gp.select(gp.receiving(channel), gp.sending(channel, 6)) == (0, 5)


def the_default_only_if_nothing_can_proceed() -> None:
    channel = gp.Channel[int](1)
    for _ in range(200):
        assert gp.select(gp.receiving(channel), timeout=0) is None
        assert gp.select(gp.sending(channel, 1), timeout=0) == (0, None)
        assert gp.select(gp.sending(channel, 2), timeout=0) is None
        assert gp.select(gp.receiving(channel), timeout=0) == (0, 1)


def exactly_one_communication_is_executed() -> None:
    channels = [gp.Channel[int](1) for _ in range(4)]
    for _ in range(100):
        number, _ = gp.select(*[gp.sending(channel, 7) for channel in channels])
        assert [len(channel) for channel in channels] == [place == number for place in range(4)]
        channels[number].recv()


def only_nil_blocks_for_ever() -> None:
    blocks_for_ever(lambda: gp.select(gp.receiving(None), gp.sending(None, 1), None))


def nobody_is_passed_over_for_long() -> None:
    """Two producers that are always ready: the select that loops serves both, about equally."""
    counts: Counter[int] = Counter()
    a, b = gp.Channel[int](), gp.Channel[int]()

    def produce(channel: gp.Channel[int]) -> None:
        while True:
            channel.send(0)

    tasks = [gp.spawn(produce, channel) for channel in (a, b)]
    longest = run = 0
    before = -1
    for _ in range(3000):
        wait_all_parked() if len(counts) < 2 else gp.yield_now()
        number, _ = gp.select(gp.receiving(a), gp.receiving(b))
        counts[number] += 1
        run = run + 1 if number == before else 1
        longest, before = max(longest, run), number
    for task in tasks:
        task.cancel()
        task.join()
    assert uniform(counts, {0: 1.0, 1: 1.0}), counts
    assert longest < 40, "2**-40"


# -- The Go Memory Model ---------------------------------------------------------------------------


def a_send_comes_before_its_receive() -> None:
    """What a task has written before it sent, the receiver on another hub sees."""

    def main() -> None:
        channel = gp.Channel[int]()
        written: list[int] = [0] * 2000

        def write() -> None:
            for place in range(len(written)):
                written[place] = place + 1
                channel.send(place)

        other = gp.spawn_on(gp.hubs()[1], write)
        for _ in written:
            place = channel.recv()
            assert written[place] == place + 1
        other.result()

    gp.run(main, hubs=2)


def a_close_comes_before_the_receive_that_sees_it() -> None:
    def main() -> None:
        for turn in range(200):
            channel = gp.Channel[None]()
            written: list[int] = []

            def close(turn: int = turn, channel: Any = channel, written: Any = written) -> None:
                written.append(turn)
                channel.close()

            other = gp.spawn_on(gp.hubs()[1], close)
            with pytest.raises(gp.ChannelClosed):
                channel.recv()
            assert written == [turn]
            other.result()

    gp.run(main, hubs=2)


def an_unbuffered_receive_comes_before_the_end_of_its_send() -> None:
    def main() -> None:
        channel = gp.Channel[int]()
        written: list[int] = [0] * 2000

        def write_then_receive() -> None:
            for place in range(len(written)):
                written[place] = place + 1
                channel.recv()

        other = gp.spawn_on(gp.hubs()[1], write_then_receive)
        for place in range(len(written)):
            channel.send(0)
            assert written[place] == place + 1
        other.result()

    gp.run(main, hubs=2)


def a_buffered_channel_is_a_counting_semaphore() -> None:
    """The k-th receive comes before the end of the (k+C)-th send: at most C are inside."""

    def main() -> None:
        places = gp.Channel[None](3)
        inside: list[int] = []
        most = []

        def work(who: int) -> None:
            for _ in range(50):
                places.send(None)
                inside.append(who)
                most.append(len(inside))
                gp.yield_now()
                inside.remove(who)
                places.recv()

        tasks = [gp.spawn_on(gp.hubs()[who % 2], work, who) for who in range(8)]
        for task in tasks:
            task.result()
        assert max(most) <= 3

    gp.run(main, hubs=2)


CHANNEL, SELECT = "tests/sync/test_channel.py::", "tests/sync/test_select.py::"

RULES = [
    Rule(
        "Channel types",
        "If the capacity is zero or absent, the channel is unbuffered and communication succeeds "
        "only when both a sender and receiver are ready.",
        unbuffered_needs_both,
    ),
    Rule(
        "Channel types",
        "Otherwise, the channel is buffered and communication succeeds without blocking if the "
        "buffer is not full (sends) or not empty (receives).",
        buffered_does_not_block,
    ),
    Rule(
        "Channel types",
        "A nil channel is never ready for communication.",
        SELECT + "test_none_never_proceeds",
        "None stands for a nil channel, in select alone",
    ),
    Rule(
        "Channel types",
        "A single channel may be used in send statements, receive operations, and calls to the "
        "built-in functions cap and len by any number of goroutines without further "
        "synchronization.",
        CHANNEL + "test_two_hubs_lose_and_double_nothing",
    ),
    Rule("Channel types", "Channels act as first-in-first-out queues.", fifo),
    Rule(
        "Send statements",
        "Both the channel and the value expression are evaluated before communication begins.",
        a_send_evaluates_before_it_communicates,
    ),
    Rule(
        "Send statements",
        "A send on an unbuffered channel can proceed if a receiver is ready.",
        CHANNEL + "test_without_capacity_a_sender_waits_for_its_receiver",
    ),
    Rule(
        "Send statements",
        "A send on a buffered channel can proceed if there is room in the buffer.",
        CHANNEL + "test_it_holds_as_many_messages_as_its_capacity",
    ),
    Rule(
        "Send statements",
        "A send on a closed channel proceeds by causing a run-time panic.",
        send_and_close_on_closed_panic_in_every_form,
        "ChannelClosed",
    ),
    Rule(
        "Receive operator",
        "A receive operation on a closed channel can always proceed immediately, yielding the "
        "element type's zero value after any previously sent values have been received.",
        closed_proceeds_at_once_and_always,
        "recv raises ChannelClosed, select yields CLOSED: Python has no zero value of a type",
    ),
    Rule(
        "Receive operator",
        "The value of ok is true if the value received was delivered by a successful send "
        "operation to the channel, or false if it is a zero value generated because the channel is "
        "closed and empty.",
        ok_tells_a_sent_zero_value_from_the_end,
        "CLOSED is no value that can be sent by accident",
    ),
    Rule(
        "Close",
        "After calling close, and after any previously sent values have been received, receive "
        "operations will return the zero value for the channel's type without blocking.",
        CHANNEL + "test_a_closed_channel_is_drained_and_then_ends",
    ),
    Rule(
        "Close",
        "Sending to or closing a closed channel causes a run-time panic to occur.",
        CHANNEL + "test_a_channel_is_closed_once",
    ),
    Rule(
        "Close",
        "(runtime) close releases all readers and all writers; the writers panic.",
        CHANNEL + "test_close_wakes_all_senders_and_keeps_what_was_sent",
    ),
    Rule("Close", "(runtime) … all readers.", CHANNEL + "test_close_wakes_all_receivers"),
    Rule(
        "Length and capacity",
        "At any time the following relationship holds: 0 <= len(s) <= cap(s).",
        len_is_between_0_and_cap,
    ),
    Rule(
        "Length and capacity",
        "len(s): chan T: number of elements queued in channel buffer.",
        len_counts_no_waiting_sender,
    ),
    Rule(
        "For statements with range clause",
        "For channels, the iteration values produced are the successive values sent on the channel "
        "until the channel is closed.",
        CHANNEL + "test_iteration_ends_with_the_messages",
    ),
    Rule(
        "Select statements",
        "For all the cases in the statement, the channel operands of receive operations and the "
        "channel and right-hand-side expressions of send statements are evaluated exactly once, in "
        "source order, upon entering the select statement.",
        operands_are_evaluated_once_in_order_whichever_is_chosen,
    ),
    Rule(
        "Select statements",
        "If one or more of the communications can proceed, a single one that can proceed is chosen "
        "via a uniform pseudo-random selection.",
        uniform_over_cases_of_every_kind,
    ),
    Rule(
        "Select statements",
        "… uniform: over cases, not channels.",
        a_channel_named_twice_has_two_chances,
    ),
    Rule("Select statements", "… uniform: time and again.", nobody_is_passed_over_for_long),
    Rule(
        "Select statements",
        "Otherwise, if there is a default case, that case is chosen.",
        the_default_only_if_nothing_can_proceed,
        "timeout=0",
    ),
    Rule(
        "Select statements",
        "If there is no default case, the select statement blocks until at least one of the "
        "communications can proceed.",
        SELECT + "test_it_parks_until_one_can_proceed_and_leaves_the_other",
    ),
    Rule(
        "Select statements",
        "Unless the selected case is the default case, the respective communication operation is "
        "executed.",
        exactly_one_communication_is_executed,
    ),
    Rule(
        "Select statements", "… on one channel in both directions.", both_directions_of_one_channel
    ),
    Rule(
        "Select statements",
        "(runtime) A select is not its own partner.",
        SELECT + "test_a_select_never_meets_itself",
    ),
    Rule(
        "Select statements",
        "Since communication on nil channels can never proceed, a select with only nil channels "
        "and no default case blocks forever.",
        only_nil_blocks_for_ever,
    ),
    Rule(
        "Select statements",
        "select {} blocks forever.",
        SELECT + "test_no_case_at_all_waits_for_ever",
    ),
    Rule(
        "Memory model",
        "A send on a channel is synchronized before the completion of the corresponding receive "
        "from that channel.",
        a_send_comes_before_its_receive,
    ),
    Rule(
        "Memory model",
        "The closing of a channel is synchronized before a receive that returns a zero value "
        "because the channel is closed.",
        a_close_comes_before_the_receive_that_sees_it,
    ),
    Rule(
        "Memory model",
        "A receive from an unbuffered channel is synchronized before the completion of the "
        "corresponding send on that channel.",
        an_unbuffered_receive_comes_before_the_end_of_its_send,
    ),
    Rule(
        "Memory model",
        "The kth receive on a channel with capacity C is synchronized before the completion of the "
        "k+Cth send from that channel.",
        a_buffered_channel_is_a_counting_semaphore,
    ),
]

CHECKED = [rule for rule in RULES if not isinstance(rule.shown_by, str)]


@pytest.mark.parametrize(
    "rule", CHECKED, ids=lambda rule: f"{rule.section}: {rule.shown_by.__name__}"
)
def test_go(rule: Rule) -> None:
    assert not isinstance(rule.shown_by, str)
    rule.shown_by()


def test_what_other_tests_show_is_there() -> None:
    root = Path(__file__).parents[2]
    for shown_by in {rule.shown_by for rule in RULES if isinstance(rule.shown_by, str)}:
        path, name = shown_by.split("::")
        functions = {
            node.name
            for node in ast.parse((root / path).read_text()).body
            if isinstance(node, ast.FunctionDef)
        }
        assert name in functions, shown_by


def test_every_check_stands_in_the_table() -> None:
    checks = {
        node.name
        for node in ast.parse(Path(__file__).read_text()).body
        if isinstance(node, ast.FunctionDef) and not node.args.args
    }
    shown = {rule.shown_by.__name__ for rule in CHECKED if not isinstance(rule.shown_by, str)}
    assert {name for name in checks if not name.startswith("test_")} == shown


def test_the_bound_on_chance_can_fail() -> None:
    assert uniform(Counter({0: 1010, 1: 990}), {0: 1.0, 1: 1.0})
    assert not uniform(Counter({0: 1150, 1: 850}), {0: 1.0, 1: 1.0})
