"""Channel: Go's rules one by one, against a plain model, and under several hubs and threads."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.hub.local import FREE_THREADED, this_hub
from greenpump.hub.pollable import QUOTA
from greenpump.hub.wait import wake
from greenpump.sync.channel import Channel
from greenpump.sync.latch import latched
from greenpump.testing import virtual_clock, wait_all_parked

NEVER = object()
T = TypeVar("T")
D = TypeVar("D", bound=deque[int])


def waiting(channel: Channel[Any]) -> int:
    """How many waiters the channel remembers, those with a message to come included."""
    return len(channel._receivers) + len(channel._senders) + len(channel._handed)


def in_thread(fn: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=fn)
    thread.start()
    return thread


def received_from(channel: Channel[T]) -> list[T]:
    """``list(channel)``, but free-threaded list() holds a lock: nothing may park inside it."""
    messages = []
    for message in channel:
        messages.append(message)
    return messages


# -- one rule after the other --------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [0, 1, 3])
def test_it_holds_as_many_messages_as_its_capacity(capacity: int) -> None:
    channel = Channel[int](capacity)
    assert (channel.capacity, len(channel), channel.closed) == (capacity, 0, False)
    for number in range(capacity):
        assert channel.try_send(number)
        assert len(channel) == number + 1
    assert not channel.try_send(99)
    assert [channel.try_recv() for _ in range(capacity)] == list(range(capacity))
    assert channel.try_recv() is None
    assert channel.try_recv(NEVER) is NEVER
    assert len(channel) == 0


@pytest.mark.parametrize("capacity", [-1, -(10**30)])
def test_a_negative_capacity_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match="must not be negative: -1"):
        Channel(capacity)


def test_a_capacity_that_is_no_whole_number_is_refused() -> None:
    with pytest.raises(TypeError):
        Channel(1.5)  # type: ignore[arg-type]


def test_an_empty_channel_is_true() -> None:
    assert Channel()


def test_without_capacity_a_sender_waits_for_its_receiver() -> None:
    channel = Channel[str]()
    order = []

    def sender() -> None:
        channel.send("hello")
        order.append("sent")

    task = gp.spawn(sender)
    wait_all_parked()
    assert order == []
    assert len(channel) == 0
    assert channel.recv() == "hello"
    order.append("received")
    task.join()
    assert order == ["received", "sent"]


def test_without_capacity_try_needs_a_partner_that_waits() -> None:
    channel = Channel[int]()
    assert not channel.try_send(1)
    receiver = gp.spawn(channel.recv)
    wait_all_parked()
    assert channel.try_send(2)
    assert receiver.result() == 2
    sender = gp.spawn(channel.send, 3)
    wait_all_parked()
    assert channel.try_recv() == 3
    assert sender.join()


def test_a_sender_that_waited_keeps_its_place_in_the_buffer() -> None:
    channel = Channel[int](2)
    senders = [gp.spawn(channel.send, number) for number in range(5)]
    wait_all_parked()
    assert [task.done for task in senders] == [True, True, False, False, False]
    assert channel.recv() == 0
    assert len(channel) == 2, "the first that waited has filled the room"
    assert not channel.try_send(99), "and nobody overtakes the others"
    assert [channel.recv() for _ in range(4)] == [1, 2, 3, 4]
    assert all(task.join() for task in senders)


def test_receivers_are_served_in_the_order_of_coming() -> None:
    channel = Channel[int]()
    receivers = [gp.spawn(channel.recv) for _ in range(5)]
    wait_all_parked()
    for number in range(5):
        channel.send(number)
    assert [task.result() for task in receivers] == [0, 1, 2, 3, 4]


def test_who_was_handed_a_message_is_not_overtaken() -> None:
    channel = Channel[int](1)
    receiver = gp.spawn(channel.recv)
    wait_all_parked()
    channel.send(1)
    assert channel.try_recv() is None, "the message is the receiver's already"
    assert receiver.result() == 1


def test_none_and_any_other_object_can_be_sent() -> None:
    channel = Channel[Any](1)
    for value in (None, False, (), channel, NotImplemented):
        channel.send(value)
        assert channel.recv() is value
        receiver = gp.spawn(channel.recv)
        wait_all_parked()
        channel.send(value)
        assert receiver.result() is value
        assert channel.try_send(value)
        assert channel.try_recv(NEVER) is value


def test_a_closed_channel_is_drained_and_then_ends() -> None:
    channel = Channel[int](3)
    channel.send(1)
    channel.send(2)
    channel.close()
    assert channel.closed
    assert len(channel) == 2
    assert channel.recv() == 1
    assert channel.try_recv() == 2
    for _ in range(2):
        with pytest.raises(gp.ChannelClosed, match="has no more messages"):
            channel.recv()
        with pytest.raises(gp.ChannelClosed, match="has no more messages"):
            channel.try_recv()


def test_nothing_can_be_sent_on_a_closed_channel() -> None:
    channel = Channel[int](3)
    channel.close()
    with pytest.raises(gp.ChannelClosed, match="nothing can be sent on <Channel at 0x"):
        channel.send(1)
    with pytest.raises(gp.ChannelClosed, match="nothing can be sent"):
        channel.try_send(1)
    assert len(channel) == 0


def test_a_channel_is_closed_once() -> None:
    channel = Channel[int]()
    channel.close()
    with pytest.raises(gp.ChannelClosed, match="can't be closed twice"):
        channel.close()


def test_close_wakes_all_receivers() -> None:
    channel = Channel[int]()
    receivers = [gp.spawn(channel.recv) for _ in range(3)]
    wait_all_parked()
    channel.close()
    assert [type(task.exception()) for task in receivers] == [gp.ChannelClosed] * 3
    assert waiting(channel) == 0


def test_close_wakes_all_senders_and_keeps_what_was_sent() -> None:
    channel = Channel[int](1)
    channel.send(0)
    senders = [gp.spawn(channel.send, number) for number in (1, 2)]
    wait_all_parked()
    channel.close()
    for task in senders:
        assert "waited to send" in str(task.exception())
        assert isinstance(task.exception(), gp.ChannelClosed)
    assert list(channel) == [0]
    assert waiting(channel) == 0


def test_a_sender_that_was_served_before_the_close_has_sent() -> None:
    channel = Channel[int]()
    sender = gp.spawn(channel.send, 1)
    wait_all_parked()
    assert channel.try_recv() == 1
    channel.close()  # before the sender has resumed
    assert sender.exception() is None


def test_a_receiver_that_was_served_before_the_close_has_its_message() -> None:
    channel = Channel[int]()
    receiver = gp.spawn(channel.recv)
    wait_all_parked()
    channel.send(1)
    channel.close()
    assert receiver.result() == 1


def test_iteration_ends_with_the_messages() -> None:
    channel = Channel[int](2)

    def produce() -> None:
        for number in range(10):
            channel.send(number)
        channel.close()

    gp.spawn(produce)
    assert received_from(channel) == list(range(10))
    assert list(channel) == []


def test_many_may_iterate() -> None:
    channel = Channel[int]()
    with gp.Group() as group:
        tasks = [group.spawn(received_from, channel) for _ in range(3)]
        for number in range(30):
            channel.send(number)
        channel.close()
    got = [task.result() for task in tasks]
    assert sorted(chain.from_iterable(got)) == list(range(30))
    assert all(part == sorted(part) for part in got)


def test_it_says_what_it_is_and_who_waits() -> None:
    channel = Channel[int](1)
    receiver = gp.spawn(channel.recv)
    wait_all_parked()
    assert repr(channel).endswith(": 0 of 1 messages, 1 waiting to receive>")
    assert receiver.state() == f"receive from {channel!r}"
    channel.send(0)
    channel.send(0)
    sender = gp.spawn(channel.send, 0)
    wait_all_parked()
    assert repr(channel).endswith(": 1 of 1 messages, 1 waiting to send>")
    assert sender.state() == f"send on {channel!r}"
    channel.close()
    assert repr(channel).endswith(": 1 of 1 messages, closed>")
    assert isinstance(sender.exception(), gp.ChannelClosed)
    receiver.join()


def test_waiting_for_nobody_is_a_deadlock() -> None:
    channel = Channel[int]()
    with pytest.raises(gp.Deadlock, match="receive from <Channel"):
        channel.recv()
    assert waiting(channel) == 0


# -- cancels and deadlines -----------------------------------------------------------------------


def test_a_cancelled_receiver_takes_nothing() -> None:
    channel = Channel[int]()
    receivers = [gp.spawn(channel.recv) for _ in range(3)]
    wait_all_parked()
    receivers[1].cancel()
    receivers[1].join()
    channel.send(1)
    channel.send(2)
    assert receivers[1].cancelled
    assert (receivers[0].result(), receivers[2].result()) == (1, 2)
    assert waiting(channel) == 0


def test_a_cancelled_sender_has_sent_nothing() -> None:
    channel = Channel[int]()
    senders = [gp.spawn(channel.send, number) for number in range(3)]
    wait_all_parked()
    senders[1].cancel()
    senders[1].join()
    assert (channel.recv(), channel.recv()) == (0, 2)
    assert channel.try_recv() is None
    assert senders[0].join()
    assert senders[2].join()
    assert waiting(channel) == 0


@virtual_clock()
def test_a_time_limit_is_a_scope_around_it() -> None:
    channel = Channel[int]()
    with pytest.raises(TimeoutError), gp.timeout(5):
        channel.recv()
    with pytest.raises(TimeoutError), gp.timeout(5):
        channel.send(1)
    assert waiting(channel) == 0
    assert channel.try_recv() is None


def test_a_cancel_after_the_handover_comes_too_late() -> None:
    channel = Channel[int]()
    got = []

    def receive() -> None:
        got.append(channel.recv())
        gp.sleep(0)  # the cancel shows at the next park

    receiver = gp.spawn(receive)
    wait_all_parked()
    channel.send(1)
    receiver.cancel()
    receiver.join()
    assert got == [1]
    assert receiver.cancelled


def test_a_cancel_between_claim_and_wake_comes_too_late() -> None:
    channel = Channel[int]()
    receiver = gp.spawn(channel.recv)
    wait_all_parked()
    # As another thread that has not got round to waking it.
    claimed = latched(channel._latch, channel._put, 1)
    receiver.cancel()
    wait_all_parked()
    assert not receiver.done
    assert claimed is receiver
    wake(receiver)
    assert receiver.result() == 1


def test_in_a_cancelled_scope_nothing_waits_but_what_needs_no_wait_is_done() -> None:
    channel = Channel[int](1)
    with gp.move_on_after(10) as scope:
        scope.cancel()
        channel.send(1)
        assert channel.recv() == 1
        channel.recv()
    assert scope.expired
    assert waiting(channel) == 0


def test_a_task_that_is_readied_by_mistake_waits_on() -> None:
    channel = Channel[int]()
    receiver = gp.spawn(channel.recv)
    wait_all_parked()
    channel.abandon(receiver)
    wake(receiver)
    wait_all_parked()
    assert not receiver.done
    channel.send(1)
    assert receiver.result() == 1


def test_a_hundred_thousand_cancelled_waits_leave_nothing() -> None:
    channel = Channel[object]()
    message = object()
    scopes: dict[int, gp.Scope] = {}

    def wait_and_be_cancelled(number: int) -> None:
        for _ in range(5000):
            with gp.move_on_after() as scopes[number]:
                channel.recv()
        for _ in range(5000):
            with gp.move_on_after() as scopes[number]:
                channel.send(message)

    def measure() -> tuple[int, int]:
        gc.collect()
        return sys.getrefcount(message), len(gc.get_objects())

    references, objects = measure()
    tasks = [gp.spawn(wait_and_be_cancelled, number) for number in range(10)]
    gp.yield_now()
    while not tasks[-1].done:
        for scope in scopes.values():
            scope.cancel()
        gp.yield_now()
    assert waiting(channel) == 0
    assert all(task.join() for task in tasks)
    scopes.clear()
    del tasks, scope
    left = measure()
    assert left[0] == references
    assert left[1] - objects < 1000


class Message:
    pass


@pytest.mark.parametrize("capacity", [0, 1])
def test_it_keeps_no_reference_to_a_message_that_is_gone(capacity: int) -> None:
    channel = Channel[Message](capacity)
    sender = gp.spawn(channel.send, Message())
    wait_all_parked()
    seen = weakref.ref(channel.recv())
    sender.join()
    receiver = gp.spawn(channel.recv)
    wait_all_parked()
    channel.send(Message())
    seen_too = weakref.ref(receiver.result())
    del receiver, sender
    gc.collect()
    assert (seen(), seen_too()) == (None, None)


def test_a_channel_that_nobody_has_is_freed() -> None:
    channel = Channel[int](1)
    channel.send(1)
    channel.recv()
    gone = weakref.ref(channel)
    del channel
    gc.collect()
    assert gone() is None


# -- fairness ------------------------------------------------------------------------------------


def test_who_never_has_to_wait_lets_the_others_run() -> None:
    channel = Channel[int](1)
    turns = 0

    def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            gp.yield_now()

    task = gp.spawn(other)
    for _ in range(10 * QUOTA):
        channel.send(1)
        channel.recv()
    assert 10 <= turns <= 40
    task.cancel()
    task.join()


def test_who_never_has_to_wait_is_cancelled_without_losing_a_message() -> None:
    channel = Channel[int](10 * QUOTA)
    sent = 0
    with gp.move_on_after(10) as scope:
        scope.cancel()
        for number in range(10 * QUOTA):
            channel.send(number)
            sent += 1
    assert scope.expired
    assert sent == len(channel) < 10 * QUOTA


# -- against a plain model -----------------------------------------------------------------------


class Model:
    """What the Go specification says, for one operation after the other."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.buffer: deque[int] = deque()
        self.closed = False
        self.senders: list[tuple[int, int]] = []  # operation, message
        self.receivers: list[int] = []
        self.results: dict[int, object] = {}

    def send(self, op: int, value: int) -> None:
        if self.closed:
            self.results[op] = "closed"
        elif self.receivers:
            self.results[self.receivers.pop(0)] = value
            self.results[op] = None
        elif len(self.buffer) < self.capacity:
            self.buffer.append(value)
            self.results[op] = None
        else:
            self.senders.append((op, value))

    def recv(self, op: int) -> None:
        if self.buffer:
            self.results[op] = self.buffer.popleft()
            if self.senders:
                sender, value = self.senders.pop(0)
                self.buffer.append(value)
                self.results[sender] = None
        elif self.senders:
            sender, self.results[op] = self.senders.pop(0)
            self.results[sender] = None
        elif self.closed:
            self.results[op] = "closed"
        else:
            self.receivers.append(op)

    def close(self) -> bool:
        if self.closed:
            return False
        self.closed = True
        for op in [*self.receivers, *(op for op, _ in self.senders)]:
            self.results[op] = "closed"
        self.receivers, self.senders = [], []
        return True

    def cancel(self, op: int) -> None:
        if op in self.receivers or op in [sender for sender, _ in self.senders]:
            self.receivers = [other for other in self.receivers if other != op]
            self.senders = [other for other in self.senders if other[0] != op]
            self.results[op] = "cancelled"


def outcome(task: gp.Task[Any]) -> object:
    if task.cancelled:
        return "cancelled"
    error = task.exception()
    assert error is None or isinstance(error, gp.ChannelClosed)
    return task.result() if error is None else "closed"


STEPS = st.lists(
    st.one_of(
        st.sampled_from(["send", "send", "recv", "recv", "try_send", "try_recv"]).map(
            lambda name: (name, 0)
        ),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.just(("close", 0)),
    ),
    max_size=40,
)


@settings(max_examples=150)
@given(capacity=st.integers(0, 3), steps=STEPS)
def test_it_does_what_the_model_does(capacity: int, steps: list[tuple[str, int]]) -> None:
    channel, model = Channel[int](capacity), Model(capacity)
    tasks: dict[int, gp.Task[Any]] = {}
    for op, (name, which) in enumerate(steps):
        if name == "send":
            tasks[op] = gp.spawn(channel.send, op)
            model.send(op, op)
        elif name == "recv":
            tasks[op] = gp.spawn(channel.recv)
            model.recv(op)
        elif name == "cancel" and tasks:
            victim = list(tasks)[which % len(tasks)]
            tasks[victim].cancel()
            model.cancel(victim)
        elif name == "close":
            if model.close():
                channel.close()
            else:
                with pytest.raises(gp.ChannelClosed):
                    channel.close()
        elif name in ("try_send", "try_recv"):
            can = bool(model.receivers) or len(model.buffer) < capacity
            if name == "try_recv":
                can = bool(model.buffer or model.senders)
            if can or model.closed:
                tasks[op] = (
                    gp.spawn(channel.try_send, op)
                    if name == "try_send"
                    else gp.spawn(channel.try_recv)
                )
                model.send(op, op) if name == "try_send" else model.recv(op)
                if model.results.get(op, 0) is None:
                    model.results[op] = True
            elif name == "try_send":
                assert channel.try_send(op) is False
            else:
                assert channel.try_recv(NEVER) is NEVER
        wait_all_parked()
        assert list(channel._buffer) == list(model.buffer)
        assert len(channel) == len(model.buffer)
        assert {key for key, task in tasks.items() if task.done} == set(model.results)
    assert {op: outcome(task) for op, task in tasks.items() if task.done} == model.results
    for task in tasks.values():
        task.cancel()
        task.join()
    assert waiting(channel) == 0


# -- several hubs and threads --------------------------------------------------------------------

PAIRS = 4
EACH = 300


def produce(channel: Channel[tuple[int, int]], who: int) -> None:
    for number in range(EACH):
        channel.send((who, number))


def check_conserved(parts: list[list[tuple[int, int]]]) -> None:
    """Each message arrived once, and each receiver got each sender's in order."""
    every = Counter(message for part in parts for message in part)
    assert every == Counter((who, number) for who in range(PAIRS) for number in range(EACH))
    for part in parts:
        for who in range(PAIRS):
            numbers = [number for sender, number in part if sender == who]
            assert numbers == sorted(numbers)


@pytest.mark.parametrize("capacity", [0, 1, 7])
def test_two_hubs_lose_and_double_nothing(capacity: int) -> None:
    channel = Channel[tuple[int, int]](capacity)

    def main() -> list[list[tuple[int, int]]]:
        hubs: list[Hub] = gp.hubs()
        receivers = [gp.spawn_on(hubs[n % 2], received_from, channel) for n in range(PAIRS)]
        senders = [gp.spawn_on(hubs[n // 2], produce, channel, n) for n in range(PAIRS)]
        for task in senders:
            task.result()
        channel.close()
        return [task.result() for task in receivers]

    check_conserved(gp.run(main, hubs=2))
    assert waiting(channel) == 0


@pytest.mark.parametrize("capacity", [0, 2])
def test_plain_threads_lose_and_double_nothing(capacity: int) -> None:
    channel = Channel[tuple[int, int]](capacity)
    parts: list[list[tuple[int, int]]] = [[] for _ in range(PAIRS)]
    threads = [in_thread(lambda part=part: part.extend(received_from(channel))) for part in parts]  # type: ignore[misc]
    senders = [in_thread(lambda who=who: produce(channel, who)) for who in range(PAIRS)]  # type: ignore[misc]
    for thread in senders:
        thread.join()
    channel.close()
    for thread in threads:
        thread.join()
    check_conserved(parts)
    assert waiting(channel) == 0


def test_deadlines_that_race_the_handover_lose_nothing() -> None:
    channel = Channel[int]()
    sent: list[int] = []
    received: list[int] = []

    def send(base: int) -> None:
        for number in range(base, base + EACH):
            with gp.move_on_after(0.0001):
                channel.send(number)
                sent.append(number)

    def receive() -> None:
        while True:
            with gp.move_on_after(0.0001):
                received.append(channel.recv())

    def collect() -> None:
        try:
            receive()
        except gp.ChannelClosed:
            pass

    def main() -> None:
        ours, other = gp.hubs()
        receivers = [gp.spawn_on(hub, collect) for hub in (ours, other)]
        senders = [gp.spawn_on(h, send, n * EACH) for n, h in enumerate([ours, other, other])]
        for task in senders:
            task.result()
        channel.close()
        for task in receivers:
            task.result()

    gp.run(main, hubs=2)
    assert sorted(sent) == sorted(received)
    assert waiting(channel) == 0


def test_close_from_another_thread_wakes_both_sides() -> None:
    full, empty = Channel[int](), Channel[int]()

    def close_when_both_wait() -> None:
        while not (full._senders and empty._receivers):
            pass
        full.close()
        empty.close()

    sender = gp.spawn(full.send, 1)
    thread = in_thread(close_when_both_wait)
    with pytest.raises(gp.ChannelClosed):
        empty.recv()
    assert isinstance(sender.exception(), gp.ChannelClosed)
    thread.join()


def test_a_thread_that_ends_with_parked_tasks_leaves_no_waiter() -> None:
    channel = Channel[int]()
    seen = []

    def leave() -> None:
        gp.spawn(channel.recv)
        gp.spawn(channel.send, 1)
        gp.spawn(channel.recv)
        wait_all_parked()
        seen.append(waiting(channel))
        this_hub().close()

    in_thread(leave).join()
    assert seen == [1]
    assert waiting(channel) == 0


# -- its parts, made at the first use ------------------------------------------------------------


def test_one_that_was_never_used_answers_all_the_same() -> None:
    channel = Channel[int](3)
    assert (len(channel), channel.capacity, channel.closed) == (0, 3, False)
    assert repr(channel).endswith(": 0 of 3 messages>")
    assert (channel._parts is None) is FREE_THREADED
    uses: list[Callable[[Channel[int]], object]] = [
        lambda each: each.send(1),
        lambda each: each.try_send(1),
        lambda each: each.try_recv(),
        lambda each: each.close(),
        lambda each: gp.select(gp.receiving(each), timeout=0),
        lambda each: gp.select(gp.sending(each, 1), timeout=0),
    ]
    for use in uses:
        each = Channel[int](3)
        use(each)
        assert each._parts is not None
        enter, leave, buffer, receivers, senders = each._parts
        assert (enter, leave) == each._latch
        assert buffer is each._buffer
        assert receivers is each._receivers
        assert senders is each._senders


def test_two_threads_that_use_one_first_at_once_find_the_same_parts() -> None:
    for _ in range(200):
        channel = Channel[int](2)
        start = threading.Barrier(2)
        found: list[Any] = []

        def use(channel: Channel[int], start: threading.Barrier, found: list[Any]) -> None:
            start.wait()
            found.append(channel.first_used())
            channel.send(1)

        threads = [in_thread(partial(use, channel, start, found)) for _ in range(2)]
        for thread in threads:
            thread.join()
        assert found[0] is found[1]
        assert len(channel) == 2


@pytest.mark.skipif(not FREE_THREADED, reason="with the GIL a fork is made inside the one latch")
def test_a_latch_that_a_lost_thread_has_entered_is_renewed() -> None:
    channel, unused = Channel[int](2), Channel[int](1)
    channel.send(1)
    for each in (channel, unused):
        enter, _ = each._latch
        enter()
        each.renew_latch()
        each.send(2)
    assert [channel.recv(), channel.recv(), unused.recv()] == [1, 2, 2]


def keep_in(channel: gp.Channel[int], buffer: D) -> D:
    """Have a channel keep its messages in ``buffer``."""
    channel.first_used()
    channel._fit(channel._latch, buffer)
    return buffer


def test_len_is_never_more_than_the_capacity_whoever_looks() -> None:
    class Buffer(deque[int]):
        longest = 0

        def append(self, item: int) -> None:
            super().append(item)
            Buffer.longest = max(Buffer.longest, len(self))

    channel: gp.Channel[int] = gp.Channel(2)
    keep_in(channel, Buffer())
    with gp.Group() as group:
        for number in range(6):
            group.spawn(channel.send, number)
        gp.yield_now()
        assert [channel.recv() for _ in range(6)] == list(range(6))
    assert Buffer.longest == 2


# -- what recv does without the latch ------------------------------------------------------------


class Raced(deque[int]):
    """A buffer of which another thread takes a message just as its length has been looked at."""

    took: int | None = None

    def __len__(self) -> int:
        length = super().__len__()
        if self.took is None:
            self.took = self.popleft()
        return length


def test_a_sender_sees_the_room_that_was_made_before_it_stood_in_line() -> None:
    channel = Channel[int](1)
    channel.send(1)
    raced = keep_in(channel, Raced(channel._buffer))
    channel.send(2)
    assert raced.took == 1
    assert channel.recv() == 2
    assert waiting(channel) == 0


def test_a_sending_select_sees_the_room_that_was_made_before_it_stood_in_line() -> None:
    channel = Channel[int](1)
    channel.send(1)
    raced = keep_in(channel, Raced(channel._buffer))
    assert gp.select(gp.receiving(Channel()), gp.sending(channel, 2)) == (1, None)
    assert raced.took == 1
    assert channel.recv() == 2
    assert waiting(channel) == 0


def test_nobody_overtakes_a_sender_that_waits_although_there_is_room() -> None:
    channel = Channel[int](1)
    channel.send(1)
    first = gp.spawn(channel.send, 2)
    wait_all_parked()
    channel._buffer.popleft()  # as another thread that has not got round to letting it in
    assert not channel.try_send(3)
    assert gp.select(gp.sending(channel, 3), timeout=0) is None
    second = gp.spawn(channel.send, 3)
    wait_all_parked()
    channel._let_in()
    assert [channel.recv(), channel.recv()] == [2, 3]
    first.join()
    second.join()
    assert waiting(channel) == 0


@pytest.mark.skipif(FREE_THREADED, reason="without the GIL it enters the latch")
def test_recv_lets_in_a_sender_that_stood_in_line_while_it_made_room() -> None:
    channel = Channel[int](1)
    channel.send(1)

    class Joined(deque[int]):
        def popleft(self) -> int:
            # Another thread's task finds the buffer full and stands in line at this very moment.
            sender.append(gp.spawn(channel.send, 2))
            wait_all_parked()
            return super().popleft()

    sender: list[gp.Task[None]] = []
    keep_in(channel, Joined(channel._buffer))
    assert channel.recv() == 1
    keep_in(channel, deque(channel._buffer))
    assert list(channel._buffer) == [2]
    sender[0].join()


@pytest.mark.skipif(FREE_THREADED, reason="without the GIL it enters the latch")
def test_recv_waits_when_another_thread_was_quicker() -> None:
    channel = Channel[int](1)

    class Quicker(deque[int]):
        def popleft(self) -> int:
            self.clear()
            return super().popleft()

    keep_in(channel, Quicker([1]))
    receiver = gp.spawn(channel.recv)
    wait_all_parked()
    channel.send(2)
    assert receiver.result() == 2
