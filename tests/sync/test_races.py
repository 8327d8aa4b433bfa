"""The primitives under thousands of seeds: no interleaving loses a wake-up, a message or a cancel.

Each test is a small program full of races, with what must hold whatever the order. What hangs is a
Deadlock at once, and a task left over fails the seed (``greenpump.testing.races``). ``random`` is
the seed's, so each seed is another program, too. How to go on where CI stops:

    GREENPUMP_SEEDS=100000 python -m pytest tests/sync/test_races.py
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

import greenpump as gp
from greenpump.hub.local import this_hub
from greenpump.testing import preemption_point, races, wait_all_parked

SEEDS = 500

Message = tuple[int, int]


def some_time() -> float:
    """One of few times, so that deadlines meet each other and what happens meanwhile."""
    return random.randrange(1, 4) / 1000


def meddle(scopes: list[gp.Scope], turns: int) -> None:
    """Cancel some of the scopes, now and then."""
    for _ in range(turns):
        preemption_point()
        if scopes and random.random() < 0.5:
            random.choice(scopes).cancel()
        if random.random() < 0.3:
            gp.sleep(some_time())


def now() -> int:
    """The virtual clock's nanoseconds."""
    return this_hub().timers.clock()


def later(fn: Callable[[], object]) -> None:
    gp.sleep(some_time())
    fn()


def nobody_waits(*channels: gp.Channel[Any]) -> bool:
    return not any(
        channel._receivers or channel._senders or channel._handed for channel in channels
    )


def left_in(channel: gp.Channel[Message]) -> list[Message]:
    return list(channel._buffer)


class Traffic:
    """Senders and receivers that are cancelled, and what each of them was told."""

    def __init__(self, capacity: int) -> None:
        self.channel = gp.Channel[Message](capacity)
        self.sent: list[Message] = []
        self.received: dict[int, list[Message]] = {}
        self.scopes: list[gp.Scope] = []

    def send(self, who: int, count: int) -> None:
        for number in range(count):
            with gp.move_on_after(random.choice([None, some_time()])) as scope:
                self.scopes.append(scope)
                preemption_point()
                if random.random() < 0.2:
                    if self.channel.try_send((who, number)):
                        self.sent.append((who, number))
                    continue
                self.channel.send((who, number))
                self.sent.append((who, number))

    def receive(self, who: int) -> None:
        got = self.received[who] = []
        while True:
            with gp.move_on_after(random.choice([None, some_time()])) as scope:
                self.scopes.append(scope)
                preemption_point()
                if random.random() < 0.2:
                    message = self.channel.try_recv()
                    if message is not None:
                        got.append(message)
                else:
                    got.append(self.channel.recv())

    def check(self) -> None:
        """Sent is what was received or is still there, once; each sender's in order."""
        got = [message for part in self.received.values() for message in part]
        assert Counter(got + left_in(self.channel)) == Counter(self.sent)
        for part in [*self.received.values(), left_in(self.channel)]:
            for who in {who for who, _ in part}:
                numbers = [number for sender, number in part if sender == who]
                assert numbers == sorted(numbers)
        assert nobody_waits(self.channel)


@pytest.mark.parametrize("capacity", [0, 1, 2])
@races(seeds=SEEDS)
def test_a_channel_under_cancels_and_deadlines(capacity: int) -> None:
    traffic = Traffic(capacity)
    with gp.Group() as group:
        senders = [group.spawn(traffic.send, who, 4) for who in range(3)]
        receivers = [group.spawn(traffic.receive, who) for who in range(2)]
        group.spawn(meddle, traffic.scopes, 12)
        for task in senders:
            task.join()
        for task in receivers:
            preemption_point()
            task.cancel()
    traffic.check()


@pytest.mark.parametrize("capacity", [0, 2])
@races(seeds=SEEDS)
def test_a_channel_that_is_closed_in_the_middle(capacity: int) -> None:
    traffic = Traffic(capacity)
    refused = Counter[str]()

    def until_closed(side: str, fn: Callable[..., None], *args: int) -> None:
        try:
            fn(*args)
        except gp.ChannelClosed:
            refused[side] += 1

    with gp.Group() as group:
        for who in range(3):
            group.spawn(until_closed, "send", traffic.send, who, 4)
        for who in range(2):
            group.spawn(until_closed, "receive", traffic.receive, who)
        group.spawn(meddle, traffic.scopes, 6)
        for _ in range(random.randrange(20)):
            preemption_point()
        traffic.channel.close()
    # The receivers have drained it; who came too late to send was told, and sent nothing.
    assert refused["receive"] == 2
    assert left_in(traffic.channel) == []
    traffic.check()


@races(seeds=SEEDS)
def test_every_receiver_and_sender_that_waits_is_woken_by_close() -> None:
    channel = gp.Channel[int](random.randrange(2))
    sends = random.random() < 0.5
    ended: list[str] = []

    def wait() -> None:
        try:
            if sends:
                channel.send(0)
            else:
                channel.recv()
        except gp.ChannelClosed:
            pass
        ended.append("closed")

    with gp.Group() as group:
        tasks = [group.spawn(wait) for _ in range(5)]
        preemption_point()
        random.choice(tasks).cancel()
        channel.close()
    assert 4 <= len(ended) <= 5
    assert nobody_waits(channel)


@races(seeds=SEEDS)
def test_who_waits_for_a_channel_is_served_in_the_order_of_coming() -> None:
    channel = gp.Channel[int](random.randrange(2))
    sends = random.random() < 0.5
    came: list[int] = []
    served: list[int] = []
    cancelled: list[int] = []

    def wait(who: int) -> None:
        preemption_point()
        came.append(who)
        try:
            if sends:
                channel.send(who)
            elif random.random() < 0.5:
                order[channel.recv()] = who
            else:
                order[gp.select(gp.receiving(channel))[1]] = who
        except gp.Cancelled:
            cancelled.append(who)
            raise

    order: dict[int, int] = {}
    tasks = [gp.spawn(wait, who) for who in range(6)]
    for number in range(random.randrange(6)):
        preemption_point()
        if number == 2:
            tasks[number].cancel()
            tasks[number].join()
    wait_all_parked()
    for number in range(5 if cancelled or tasks[2].cancelled else 6):
        if sends:
            served.append(channel.recv())
        else:
            channel.send(number)
        preemption_point()
    for task in tasks:
        task.join()
    if not sends:
        served = [order[number] for number in sorted(order)]
    assert served == [who for who in came if who not in cancelled]


@races(seeds=SEEDS)
def test_selects_that_meet_each_other() -> None:
    """Each commits to one partner: what one says it has sent, another says it has received."""
    channels = [gp.Channel[Message](random.choice([0, 0, 1])) for _ in range(3)]
    sent: list[Message] = []
    received: list[Message] = []
    scopes: list[gp.Scope] = []

    def play(who: int) -> None:
        for number in range(4):
            ways = [
                gp.sending(channel, (who, 10 * number + place))
                if random.random() < 0.5
                else gp.receiving(channel)
                for place, channel in enumerate(random.choices(channels, k=3))
            ]
            sends = [type(way).__name__ == "_Sending" for way in ways]
            with gp.move_on_after() as scope:
                scopes.append(scope)
                preemption_point()
                match gp.select(*ways, timeout=random.choice([0, 0.001, 0.002])):
                    case None:
                        pass
                    case place, _ if sends[place]:
                        assert isinstance(place, int)
                        message = ways[place].message
                        sent.append(message)
                    case _, message:
                        received.append(message)

    with gp.Group() as group:
        for who in range(4):
            group.spawn(play, who)
        group.spawn(meddle, scopes, 8)
    left = [message for channel in channels for message in left_in(channel)]
    assert Counter(received + left) == Counter(sent)
    assert nobody_waits(*channels)


@races(seeds=SEEDS)
def test_a_select_on_everything_takes_one_thing_only() -> None:
    messages, results = gp.Channel[int](), gp.Channel[int](1)
    stop = gp.Event()
    taken: list[int] = []
    numbers: list[int] = []

    def select_once() -> None:
        victim = gp.spawn(gp.sleep, some_time())
        match gp.select(
            gp.receiving(messages), gp.sending(results, 7), stop, victim, timeout=some_time()
        ):
            case 0, int(message):
                taken.append(message)
                numbers.append(0)
            case int(number), _:
                numbers.append(number)
            case None:
                numbers.append(-1)
        victim.cancel()
        victim.join()

    def offer() -> None:
        with gp.move_on_after(some_time()):
            messages.send(1)
            given.append(1)

    given: list[int] = []
    with gp.Group() as group:
        group.spawn(select_once)
        group.spawn(offer)
        group.spawn(offer)
        group.spawn(later, stop.set)
    assert len(numbers) == 1
    assert len(taken) == len(given) == (numbers == [0])
    assert len(results) == (numbers == [1])
    assert nobody_waits(messages, results)
    assert not stop._waiting


@races(seeds=SEEDS)
def test_a_select_that_is_cancelled_takes_and_sends_nothing() -> None:
    incoming, outgoing = gp.Channel[int](), gp.Channel[int]()
    outcome: list[object] = []

    def select_once() -> None:
        with gp.move_on_after(some_time()) as scope:
            scopes.append(scope)
            outcome.append(gp.select(gp.receiving(incoming), gp.sending(outgoing, 5)))

    def send() -> None:
        with gp.move_on_after(some_time()):
            incoming.send(1)
            outcome.append("sender was served")

    def receive() -> None:
        with gp.move_on_after(some_time()):
            outcome.append(("receiver got", outgoing.recv()))

    scopes: list[gp.Scope] = []
    with gp.Group() as group:
        for fn in (select_once, send, receive):
            group.spawn(fn)
        group.spawn(meddle, scopes, 3)
    assert set(outcome) in (
        set(),
        {(0, 1), "sender was served"},
        {(1, None), ("receiver got", 5)},
    )
    assert nobody_waits(incoming, outgoing)


@races(seeds=SEEDS)
def test_an_event_wakes_all_who_wait_even_if_it_is_cleared_at_once() -> None:
    event = gp.Event()
    woken: list[int] = []
    scopes: list[gp.Scope] = []

    def wait(who: int) -> None:
        with gp.move_on_after() as scope:
            scopes.append(scope)
            if event.wait(random.choice([None, None, 0.001])):
                woken.append(who)

    def wait_by_select(who: int) -> None:
        gp.select(event)
        woken.append(who)

    tasks = [gp.spawn(wait, who) for who in range(4)]
    tasks += [gp.spawn(wait_by_select, who) for who in range(4, 7)]
    for _ in range(random.randrange(8)):
        gp.yield_now()
    if scopes and random.random() < 0.5:
        random.choice(scopes).cancel()
    waited = len(event._waiting)
    event.set()
    event.clear()
    assert not event._waiting
    wait_all_parked()
    assert len(woken) == waited, "all who waited, and nobody else"
    event.set()
    for task in tasks:
        task.join()
    assert not event._waiting


@races(seeds=SEEDS)
def test_an_event_as_a_latch_in_a_chain() -> None:
    """Each waits for the one before; a wake-up lost anywhere stops the chain."""
    events = [gp.Event() for _ in range(6)]

    def link(before: gp.Event, after: gp.Event) -> None:
        preemption_point()
        while not before.wait(random.choice([None, some_time()])):
            preemption_point()
        preemption_point()
        after.set()

    links = list(pairwise(events))
    random.shuffle(links)
    with gp.Group() as group:
        for before, after in links:
            group.spawn(link, before, after)
        group.spawn(events[0].set)
    assert all(event.is_set() for event in events)


@races(seeds=SEEDS)
def test_a_group_ends_when_all_have_and_keeps_every_error() -> None:
    started: list[int] = []
    ended: list[int] = []
    failed: list[int] = []

    class Boom(Exception):
        pass

    def member(who: int) -> None:
        started.append(who)
        try:
            gp.sleep(some_time())
            if random.random() < 0.3:
                failed.append(who)
                raise Boom(who)
            gp.sleep(some_time())
        finally:
            with gp.shield():
                gp.sleep(some_time())
            ended.append(who)

    errors: list[int] = []
    tasks = []
    try:
        with gp.Group() as group:
            for who in range(5):
                tasks.append(group.spawn(member, who))
                preemption_point()
    except ExceptionGroup as caught:
        errors = [error.args[0] for error in caught.exceptions]
    assert sorted(errors) == sorted(failed)
    assert sorted(ended) == sorted(started), "no member outlives the block"
    assert all(task.done for task in tasks)


@races(seeds=SEEDS)
def test_a_group_with_a_limit_keeps_it_and_loses_no_place() -> None:
    running = most = done = 0

    def member() -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        try:
            preemption_point()
            gp.sleep(random.choice([0, some_time()]))
        finally:
            running -= 1
            done += 1

    def spawner(group: gp.Group, count: int) -> None:
        for _ in range(count):
            with gp.move_on_after(random.choice([None, some_time()])) as scope:
                scopes.append(scope)
                group.spawn(member)
                spawned.append(1)

    scopes: list[gp.Scope] = []
    spawned: list[int] = []
    with gp.Group() as outer, gp.Group(limit=2) as group:
        tasks = [outer.spawn(spawner, group, 4) for _ in range(3)]
        outer.spawn(meddle, scopes, 6)
        for task in tasks:
            task.join()
        assert group._taken <= 2
    assert most <= 2
    assert done == len(spawned)
    assert running == group._taken == len(group._queue) == 0


@races(seeds=SEEDS)
def test_of_nested_limits_each_ends_its_own_block() -> None:
    channel = gp.Channel[int](1)
    ended: list[str] = []

    def inner_then_outer() -> None:
        with gp.move_on_after(some_time()) as outer:
            scopes.append(outer)
            with gp.move_on_after(some_time()) as inner:
                scopes.append(inner)
                channel.recv()
                ended.append("received")
            if inner.expired:
                ended.append("inner")
            preemption_point()  # a park: raises if the outer one is cancelled by now
        if outer.expired:
            ended.append("outer")
            assert outer.cancelled

    scopes: list[gp.Scope] = []
    with gp.Group() as group:
        task = group.spawn(inner_then_outer)
        group.spawn(later, lambda: channel.try_send(1))
        group.spawn(meddle, scopes, 3)
        task.join()
    received = ended.count("received")
    assert received + len(channel) <= 1
    assert ended.count("inner") + ended.count("received") <= 1
    if not ended:
        raise AssertionError("neither a message nor a limit ended it")


@races(seeds=SEEDS)
def test_a_shield_holds_until_its_end_and_not_longer() -> None:
    steps: list[str] = []

    def work() -> None:
        try:
            with gp.shield():
                for _ in range(3):
                    seconds, before = some_time(), now()
                    gp.sleep(seconds)
                    assert now() - before >= int(seconds * 1e9), "not even for a moment"
                steps.append("kept")
            gp.sleep(10)
            steps.append("too long")
        finally:
            steps.append("ended")

    task = gp.spawn(work)
    for _ in range(random.randrange(1, 6)):
        gp.yield_now()
    started = task.glet is not None
    task.cancel()
    task.join()
    assert steps == (["kept", "ended"] if started else [])
    assert task.cancelled


@races(seeds=SEEDS)
def test_everybody_who_joins_a_task_learns_the_same() -> None:
    victim = gp.spawn(gp.sleep, some_time())
    told: list[bool] = []

    def join() -> None:
        while not victim.join(random.choice([None, some_time()])):
            preemption_point()
        told.append(victim.cancelled)

    def select_on_it() -> None:
        gp.select(victim)
        told.append(victim.cancelled)

    def cancel() -> None:
        gp.sleep(some_time())
        victim.cancel()

    with gp.Group() as group:
        for fn in (join, join, select_on_it, cancel):
            group.spawn(fn)
    assert len(told) == 3
    assert set(told) == {victim.cancelled}
    assert victim._joiners is None


@races(seeds=SEEDS)
def test_a_ring_keeps_its_tokens_though_its_tasks_are_replaced() -> None:
    """A task that is cancelled has a token or hasn't; its successor goes on where it was."""
    places = 4
    ring = [gp.Channel[int](1) for _ in range(places)]
    holding: dict[int, int] = {}

    def carry(place: int) -> None:
        while True:
            if place not in holding:
                holding[place] = ring[place].recv()
            preemption_point()
            ring[(place + 1) % places].send(holding[place])
            del holding[place]

    tokens = [1, 2]
    for place, token in enumerate(tokens):
        ring[place].send(token)
    tasks = [gp.spawn(carry, place) for place in range(places)]
    for _ in range(10):
        gp.yield_now()
        place = random.randrange(places)
        tasks[place].cancel()
        tasks[place].join()
        tasks[place] = gp.spawn(carry, place)
    for task in tasks:
        task.cancel()
        task.join()
    left = [token for channel in ring for token in channel._buffer]
    assert sorted([*left, *holding.values()]) == tokens
    assert nobody_waits(*ring)


@races(seeds=SEEDS)
def test_a_pipeline_delivers_all_in_order() -> None:
    """One worker per stage: what goes in comes out, in order, whoever runs when."""
    first, second, third = (gp.Channel[int](random.randrange(3)) for _ in range(3))

    def stage(source: gp.Channel[int], drain: gp.Channel[int]) -> None:
        for item in source:
            preemption_point()
            drain.send(item + 1)
        drain.close()

    def feed() -> None:
        for item in range(10):
            first.send(item)
        first.close()

    with gp.Group() as group:
        group.spawn(feed)
        group.spawn(stage, first, second)
        group.spawn(stage, second, third)
        out = []
        for item in third:
            out.append(item)
    assert out == [item + 2 for item in range(10)]
