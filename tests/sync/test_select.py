"""select: exactly one of several, by Go's rules; alone, at random, and under several hubs."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import greenpump as gp
from greenpump.hub.local import FREE_THREADED
from greenpump.hub.pollable import QUOTA
from greenpump.hub.wait import wake
from greenpump.sync.cases import CLOSED, receiving, sending
from greenpump.sync.channel import Channel
from greenpump.sync.latch import Latch, latched, own_latch
from greenpump.sync.select import chance, select
from greenpump.testing import virtual_clock, wait_all_parked


def waiting(*channels: Channel[Any]) -> int:
    return sum(len(c._receivers) + len(c._senders) + len(c._handed) for c in channels)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    chance.seed(1)
    yield
    chance.seed()


def taken(latch: Latch) -> bool:
    """Whether somebody is inside."""
    token: Any = latch[0].__self__  # type: ignore[attr-defined]
    return bool(token.locked()) if FREE_THREADED else not token


# -- one rule after the other --------------------------------------------------------------------


def test_a_message_that_is_there_is_received() -> None:
    a, b = Channel[int](1), Channel[int](1)
    b.send(7)
    assert select(receiving(a), receiving(b)) == (1, 7)
    assert len(b) == 0


def test_a_message_that_has_room_is_sent() -> None:
    a, b = Channel[int](), Channel[int](1)
    assert select(sending(a, 1), sending(b, 2)) == (1, None)
    assert b.recv() == 2


def test_it_parks_until_one_can_proceed_and_leaves_the_other() -> None:
    a, b = Channel[int](), Channel[int]()
    task = gp.spawn(select, receiving(a), receiving(b))
    wait_all_parked()
    assert not task.done
    b.send(3)
    assert task.result() == (1, 3)
    assert waiting(a, b) == 0
    assert not a.try_send(1)


def test_a_parked_send_is_taken_once() -> None:
    a, b = Channel[str](), Channel[str]()
    task = gp.spawn(select, sending(a, "for a"), sending(b, "for b"))
    wait_all_parked()
    assert a.recv() == "for a"
    assert b.try_recv() is None, "never both"
    assert task.result() == (0, None)
    assert waiting(a, b) == 0


def test_two_selects_meet() -> None:
    a, b = Channel[int](), Channel[int]()
    one = gp.spawn(select, receiving(a), sending(b, 1))
    other = gp.spawn(select, sending(a, 2), receiving(b))
    assert (one.result(), other.result()) in [((0, 2), (0, None)), ((1, None), (1, 1))]
    assert waiting(a, b) == 0


def test_a_select_never_meets_itself() -> None:
    channel = Channel[int]()
    cases = receiving(channel), sending(channel, 1)
    assert select(*cases, timeout=0) is None
    task = gp.spawn(select, *cases)
    wait_all_parked()
    assert not task.done
    assert select(*cases) in [(0, 1), (1, None)]
    assert task.result() in [(0, 1), (1, None)]
    assert waiting(channel) == 0


def test_a_stale_waiter_is_passed_over() -> None:
    a, b = Channel[int](), Channel[int]()
    select_task = gp.spawn(select, receiving(a), receiving(b))
    plain = gp.spawn(b.recv)
    wait_all_parked()
    a.send(1)  # claims the select, which still stands in b's line
    assert b.try_send(2), "the next in line"
    assert not b.try_send(3)
    assert (select_task.result(), plain.result()) == ((0, 1), 2)


def test_a_case_whose_only_partner_is_taken_is_not_ready() -> None:
    a, b = Channel[int](), Channel[int]()
    task = gp.spawn(select, receiving(a), receiving(b))
    wait_all_parked()
    a.send(1)
    assert select(sending(b, 2), timeout=0) is None
    assert task.result() == (0, 1)


def test_the_line_is_served_in_turn_whoever_stands_in_it() -> None:
    channel = Channel[int]()
    tasks: list[gp.Task[Any]] = [
        gp.spawn(channel.recv),
        gp.spawn(select, receiving(channel)),
        gp.spawn(channel.recv),
        gp.spawn(select, receiving(channel), receiving(Channel())),
    ]
    wait_all_parked()
    for number in range(4):
        channel.send(number)
    assert [task.result() for task in tasks] == [0, (0, 1), 2, (0, 3)]


def test_a_parked_sending_select_fills_the_room_of_a_buffer() -> None:
    channel = Channel[int](1)
    channel.send(1)
    task = gp.spawn(select, sending(channel, 2), receiving(Channel()))
    wait_all_parked()
    assert channel.recv() == 1
    assert len(channel) == 1
    assert task.result() == (0, None)
    assert channel.recv() == 2


@pytest.mark.parametrize("case", [None, receiving(None), sending(None, 1)])
def test_none_never_proceeds(case: Any) -> None:
    channel = Channel[int](1)
    channel.send(1)
    assert select(case, timeout=0) is None
    assert select(case, receiving(channel), case) == (1, 1)
    task = gp.spawn(select, case)
    wait_all_parked()
    assert not task.done
    assert task.state() == "select of None"
    task.cancel()
    task.join()


def test_no_case_at_all_waits_for_ever() -> None:
    assert select(timeout=0) is None
    with pytest.raises(gp.Deadlock, match="select of nothing"):
        select()


def test_from_a_closed_channel_closed_is_received_at_once_and_again() -> None:
    channel = Channel[int](2)
    channel.send(1)
    channel.close()
    case = receiving(channel)
    assert select(case) == (0, 1)
    assert select(case) == (0, CLOSED)
    assert select(case, timeout=0) == (0, CLOSED)
    assert repr(CLOSED) == "greenpump.CLOSED"


def test_close_wakes_a_receiving_select() -> None:
    channel, other = Channel[int](), Channel[int]()
    task = gp.spawn(select, receiving(other), receiving(channel))
    wait_all_parked()
    channel.close()
    assert task.result() == (1, CLOSED)
    assert waiting(channel, other) == 0


def test_a_send_on_a_closed_channel_raises() -> None:
    channel, other = Channel[int](1), Channel[int]()
    channel.close()
    with pytest.raises(gp.ChannelClosed, match="nothing can be sent"):
        select(receiving(other), sending(channel, 1))
    assert (other.try_recv(), channel.closed) == (None, True), "no latch is taken"


def test_close_wakes_a_sending_select() -> None:
    channel, other = Channel[int](), Channel[int]()
    task = gp.spawn(select, receiving(other), sending(channel, 1))
    wait_all_parked()
    channel.close()
    with pytest.raises(gp.ChannelClosed, match="while a select waited to send"):
        task.result()
    assert waiting(channel, other) == 0


def test_timeout_0_is_default_and_does_not_park() -> None:
    ran: list[int] = []
    task = gp.spawn(ran.append, 1)
    for _ in range(3 * QUOTA):
        assert select(receiving(Channel()), timeout=0) is None
    assert ran == []
    task.join()


@virtual_clock()
def test_none_is_returned_when_the_timeout_passes() -> None:
    a, b = Channel[int](), Channel[int]()
    before = gp.hubs()[0].timers.clock()
    assert select(receiving(a), sending(b, 1), timeout=2.5) is None
    assert gp.hubs()[0].timers.clock() - before == 2_500_000_000
    assert waiting(a, b) == 0


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_timeout_that_makes_no_sense_is_refused(timeout: float) -> None:
    channel = Channel[int](1)
    channel.send(1)
    with pytest.raises(ValueError, match="a time in seconds"):
        select(receiving(channel), timeout=timeout)
    assert len(channel) == 1


def test_what_cannot_be_waited_for_is_refused() -> None:
    with pytest.raises(TypeError, match=r"select can't wait for 7: give it receiving\(channel\)"):
        select(7)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="select can't wait for <Channel"):
        select(Channel())  # type: ignore[call-overload]


def test_a_cancelled_select_has_done_nothing() -> None:
    a, b = Channel[int](), Channel[int]()
    task = gp.spawn(select, receiving(a), sending(b, 1))
    wait_all_parked()
    task.cancel()
    task.join()
    assert task.cancelled
    assert waiting(a, b) == 0
    assert not a.try_send(1)
    assert b.try_recv() is None


def test_a_cancel_after_the_handover_comes_too_late() -> None:
    channel = Channel[int]()
    task = gp.spawn(select, receiving(channel), receiving(Channel()))
    wait_all_parked()
    channel.send(5)
    task.cancel()
    assert task.result() == (0, 5)


def test_a_cancel_between_claim_and_wake_comes_too_late() -> None:
    channel = Channel[int]()
    task = gp.spawn(select, receiving(channel), receiving(Channel()), timeout=None)
    wait_all_parked()
    # As another thread that has not got round to waking it.
    claimed = latched(channel._latch, channel._put, 1)
    task.cancel()
    wait_all_parked()
    assert not task.done
    assert claimed is task
    wake(task)
    assert task.result() == (0, 1)


def test_it_enters_every_channel_s_latch_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("greenpump.sync.select.EVERYBODYS", ())  # as without the GIL
    channels = Channel[int](), Channel[int]()
    for channel in channels:
        channel._latch = own_latch()
    lower, upper = sorted(channels, key=lambda channel: id(channel._latch))
    thread = threading.Thread(
        target=select, args=(receiving(upper), receiving(lower)), kwargs={"timeout": 0}
    )
    enter, leave = upper._latch
    enter()
    thread.start()
    while not taken(lower._latch):
        assert thread.is_alive(), "it needs both"
    thread.join(0.01)
    assert thread.is_alive()
    assert taken(lower._latch), "it keeps the first while it waits for the second"
    leave()
    thread.join()
    assert not taken(lower._latch)
    assert not taken(upper._latch)


def test_in_a_cancelled_scope_only_what_needs_no_wait_is_done() -> None:
    channel = Channel[int](1)
    with gp.move_on_after() as scope:
        scope.cancel()
        assert select(sending(channel, 1)) == (0, None)
        select(sending(channel, 2))
    assert scope.expired
    assert waiting(channel) == 0


def test_cases_can_be_used_again_and_by_several_tasks() -> None:
    a, b = Channel[int](), Channel[int]()
    cases = receiving(a), receiving(b)
    tasks = [gp.spawn(select, *cases) for _ in range(4)]
    wait_all_parked()
    for channel in (a, b, b, a):
        channel.send(1)
    assert [task.result() for task in tasks] == [(0, 1), (1, 1), (1, 1), (0, 1)]


def test_one_channel_may_stand_in_several_cases() -> None:
    channel = Channel[int]()
    task = gp.spawn(select, *[sending(channel, number) for number in range(3)])
    wait_all_parked()
    got = channel.recv()
    assert task.result() == (got, None)
    assert channel.try_recv() is None


def test_it_reads_as_its_documentation_says() -> None:
    jobs, results, stop = Channel[int](1), Channel[int](), gp.Event()
    said = []

    def work() -> None:
        while True:
            match select(receiving(jobs), sending(results, 9), stop, timeout=0):
                case 0, closed if closed is CLOSED:
                    said.append("closed")
                    return
                case 0, job:
                    said.append(job)
                case 1, _:
                    said.append("sent")
                case 2, _:
                    said.append("stop")
                    return
                case None:
                    said.append("idle")
                    jobs.close()

    jobs.send(4)
    work()
    assert said == [4, "idle", "closed"]


# -- at random -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ready", [{0, 1}, {0, 3}, {0, 1, 2, 3}, {1, 2, 3}])
def test_each_ready_case_is_as_probable(ready: set[int]) -> None:
    channels = [Channel[int](1) for _ in range(4)]
    for number in ready:
        channels[number].send(0)
    counts: Counter[int] = Counter()
    rounds = 3000
    for _ in range(rounds):
        number, _ = select(*map(receiving, channels))
        channels[number].send(0)
        counts[number] += 1
    assert set(counts) == ready
    expected = rounds / len(ready)
    chi_squared = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_squared < 16.3, f"p < 0.001 even with 3 degrees of freedom: {counts}"


def test_sends_receives_and_events_are_drawn_alike() -> None:
    full, empty, event = Channel[int](1), Channel[int](1), gp.Event()
    full.send(0)
    event.set()
    counts: Counter[int] = Counter()
    for _ in range(3000):
        number, _ = select(receiving(full), sending(empty, 0), event)
        counts[number] += 1
        if number == 0:
            full.send(0)
        elif number == 1:
            empty.recv()
    assert all(900 < counts[number] < 1100 for number in range(3))


def test_stale_waiters_don_t_change_the_odds() -> None:
    counts: Counter[int] = Counter()
    for _ in range(600):
        stale, good, better = (Channel[int]() for _ in range(3))
        claimed = gp.spawn(select, receiving(stale), receiving(good))
        plain = [gp.spawn(good.recv), gp.spawn(better.recv)]
        wait_all_parked()
        good.send(1)  # the select is the first in line
        number, _ = select(sending(stale, 2), sending(good, 2), sending(better, 2))
        counts[number] += 1
        for task in (claimed, *plain):
            task.cancel()
            task.join()
    assert set(counts) == {1, 2}
    assert 250 < counts[1] < 350


def test_who_never_has_to_wait_lets_the_others_run() -> None:
    channel = Channel[int](1)
    turns = 0

    def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            gp.yield_now()

    task = gp.spawn(other)
    for _ in range(5 * QUOTA):
        select(sending(channel, 1))
        select(receiving(channel))
    assert turns >= 5
    task.cancel()
    task.join()


# -- against a plain model -----------------------------------------------------------------------

CASES = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["recv", "send"])), min_size=1, max_size=4
)


@settings(max_examples=100)
@given(
    capacities=st.tuples(*[st.integers(0, 2)] * 3),
    steps=st.lists(st.tuples(CASES, st.sampled_from([0, 0, 1, 2])), max_size=25),
    cancels=st.lists(st.integers(0, 24), max_size=5),
)
def test_every_message_sent_is_received_once(
    capacities: tuple[int, ...],
    steps: list[tuple[list[tuple[int, str]], int]],
    cancels: list[int],
) -> None:
    channels = [Channel[Any](capacity) for capacity in capacities]
    tasks = []
    for step, (cases, drain) in enumerate(steps):
        ways = [
            receiving(channels[which])
            if verb == "recv"
            else sending(channels[which], (step, number))
            for number, (which, verb) in enumerate(cases)
        ]
        tasks.append(gp.spawn(select, *ways))
        if step in cancels:
            wait_all_parked()
            tasks[step // 2].cancel()
        if drain:
            channels[drain].try_send((step, "plain"))
    wait_all_parked()
    sent, received = [], []
    for step, (task, (cases, _)) in enumerate(zip(tasks, steps, strict=True)):
        if not task.done:
            task.cancel()
            task.join()
        elif not task.cancelled:
            number, value = task.result()
            if cases[number][1] == "send":
                sent.append((step, number))
            else:
                received.append(value)
    left = [message for channel in channels for message in channel._buffer]
    plain = [message for message in received + left if message[1] == "plain"]
    others = [message for message in received + left if message[1] != "plain"]
    assert sorted(others) == sorted(sent)
    assert len(plain) == len(set(plain))
    assert waiting(*channels) == 0


# -- cancels by the thousand -----------------------------------------------------------------------


def test_a_hundred_thousand_cancelled_selects_leave_nothing() -> None:
    a, b = Channel[object](), Channel[object]()
    event, long_task = gp.Event(), gp.spawn(gp.sleep, 3600)
    message = object()
    scopes: dict[int, gp.Scope] = {}

    def wait_and_be_cancelled(number: int) -> None:
        for _ in range(10_000):
            with gp.move_on_after() as scopes[number]:
                select(receiving(a), sending(b, message), event, long_task)

    references = sys.getrefcount(message)
    gc.collect()
    objects = len(gc.get_objects())
    tasks = [gp.spawn(wait_and_be_cancelled, number) for number in range(10)]
    gp.yield_now()
    while not tasks[-1].done:
        for scope in scopes.values():
            scope.cancel()
        gp.yield_now()
    assert waiting(a, b) == 0
    assert not event._waiting
    assert not long_task._joiners
    assert all(task.join() for task in tasks)
    scopes.clear()
    del tasks, scope
    gc.collect()
    assert sys.getrefcount(message) == references
    assert len(gc.get_objects()) - objects < 1000
    long_task.cancel()
    long_task.join()


class Message:
    pass


def test_it_keeps_no_message() -> None:
    a, b = Channel[Message](), Channel[Message]()
    task = gp.spawn(select, receiving(a), sending(b, Message()))
    wait_all_parked()
    sent = weakref.ref(b.recv())
    assert task.result() == (1, None)
    task = gp.spawn(select, receiving(a), receiving(b))
    wait_all_parked()
    a.send(Message())
    received = weakref.ref(task.result()[1])
    del task
    gc.collect()
    assert (sent(), received()) == (None, None)


# -- several hubs and threads --------------------------------------------------------------------

PLAYERS = 6
ROUNDS = 400


class Player:
    """Sends and receives by selects over all channels, in an order of its own."""

    def __init__(self, number: int, channels: list[Channel[Any]]) -> None:
        self.number = number
        self.channels = channels
        self.random = Random(number)
        self.sent: list[Any] = []
        self.received: list[Any] = []

    def play(self) -> None:
        for turn in range(ROUNDS):
            mine = self.random.sample(self.channels, 3)
            message = (self.number, turn)
            cases = [receiving(mine[0]), sending(mine[1], message), receiving(mine[2])]
            if turn % 3 == 0:
                cases.append(sending(mine[0], message))  # both sides of one channel
            done = select(*cases, timeout=0.0002 if turn % 5 == 0 else 0.002)
            if done is None:
                continue
            if done[0] in (1, 3):
                self.sent.append(message)
            else:
                self.received.append(done[1])


def check_conserved(players: list[Player], channels: list[Channel[Any]]) -> None:
    sent = [message for player in players for message in player.sent]
    received = [message for player in players for message in player.received]
    left = [message for channel in channels for message in channel._buffer]
    assert Counter(received + left) == Counter(sent)
    assert max(Counter(sent).values()) == 1
    assert len(sent) > ROUNDS, "hardly anybody met"
    assert waiting(*channels) == 0


def test_two_hubs_of_selects_never_commit_to_two_partners() -> None:
    channels = [Channel[Any](capacity) for capacity in (0, 0, 0, 1)]
    players = [Player(number, channels) for number in range(PLAYERS)]

    def main() -> None:
        hubs = gp.hubs()
        tasks = [gp.spawn_on(hubs[n % 2], player.play) for n, player in enumerate(players)]
        for task in tasks:
            task.result()

    gp.run(main, hubs=2)
    check_conserved(players, channels)


def test_threads_of_selects_never_commit_to_two_partners() -> None:
    channels = [Channel[Any](capacity) for capacity in (0, 0, 0, 1)]
    players = [Player(number, channels) for number in range(PLAYERS)]
    threads = [threading.Thread(target=player.play) for player in players]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_conserved(players, channels)


def test_a_chain_of_selects_across_two_hubs_ends() -> None:
    links = [Channel[int]() for _ in range(10)]

    def pass_on(source: Channel[int], target: Channel[int]) -> None:
        while True:
            number, value = select(receiving(source))
            assert number == 0
            if value is CLOSED:
                target.close()
                return
            select(sending(target, value + 1))

    def main() -> list[int]:
        hubs = gp.hubs()
        for number in range(9):
            gp.spawn_on(hubs[number % 2], pass_on, links[number], links[number + 1])

        def feed() -> None:
            for number in range(100):
                links[0].send(number)
            links[0].close()

        gp.spawn(feed)
        last = []
        for value in links[9]:  # not list(): see test_channel.received_from
            last.append(value)
        return last

    assert gp.run(main, hubs=2) == [number + 9 for number in range(100)]
