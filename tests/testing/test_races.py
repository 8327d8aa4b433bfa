"""races: it finds what fails under some seed, says which, and lets nothing pass."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable

import pytest

import greenpump as gp
from greenpump.hub.local import this_hub
from greenpump.hub.task import Task
from greenpump.hub.timers import FAR
from greenpump.hub.wait import SLEEP, wake
from greenpump.testing import preemption_point, races


@pytest.fixture(autouse=True)
def no_seed_of_the_caller_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GREENPUMP_SEED", raising=False)
    monkeypatch.delenv("GREENPUMP_SEEDS", raising=False)


# -- primitives with a fault, each of which some interleaving shows ------------------------------


class LossyEvent:
    """Looks at the flag first and joins the waiters afterwards: a wake-up in between is lost."""

    def __init__(self) -> None:
        self._set = False
        self._waiting: list[gp.Channel[None]] = []

    def set(self) -> None:
        self._set = True
        for channel in self._waiting:
            channel.close()

    def wait(self) -> None:
        if self._set:
            return
        preemption_point()
        channel = gp.Channel[None]()
        self._waiting.append(channel)
        with pytest.raises(gp.ChannelClosed):
            channel.recv()


class RacyCounter:
    """Reads, waits, writes: an update in between is lost."""

    def __init__(self) -> None:
        self.value = 0

    def add(self) -> None:
        value = self.value
        gp.yield_now()
        self.value = value + 1


class LeakySemaphore:
    """Hands a token to a waiter without asking whether its cancel came first: the token is lost."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self._waiting: deque[Task[object]] = deque()

    def acquire(self) -> None:
        if self.tokens:
            self.tokens -= 1
            return
        hub = this_hub()
        task = hub.prepare()
        self._waiting.append(task)
        hub.wait(task, SLEEP)  # whose ``abandon`` leaves the task in the line

    def release(self) -> None:
        if self._waiting:
            task = self._waiting.popleft()
            if task.wait is not None:
                wake(task)
            return
        self.tokens += 1


class DoublingQueue:
    """Looks at the first item, lets others run, removes it: two may get the same."""

    def __init__(self) -> None:
        self.items: deque[int] = deque()

    def get(self) -> int:
        item = self.items[0]
        preemption_point()
        if self.items:
            self.items.popleft()
        return item


def lost_wakeup() -> None:
    event = LossyEvent()
    task = gp.spawn(event.wait)
    preemption_point()
    event.set()
    task.join()


def lost_update() -> None:
    counter = RacyCounter()
    with gp.Group() as group:
        for _ in range(2):
            group.spawn(counter.add)
    assert counter.value == 2


def lost_token() -> None:
    semaphore = LeakySemaphore(1)

    def worker() -> None:
        semaphore.acquire()
        gp.yield_now()
        semaphore.release()

    with gp.Group() as group:
        tasks = [group.spawn(worker) for _ in range(3)]
        group.spawn(tasks[1].cancel)
    assert semaphore.tokens == 1


def double_delivery() -> None:
    queue = DoublingQueue()
    queue.items.extend([1, 2])
    tasks = [gp.spawn(queue.get) for _ in range(2)]
    assert sorted(task.result() for task in tasks) == [1, 2]


def deadlock_of_two_locks() -> None:
    a, b = (gp.Channel[None](1) for _ in range(2))

    def both(first: gp.Channel[None], second: gp.Channel[None]) -> None:
        first.send(None)
        preemption_point()
        second.send(None)
        second.recv()
        first.recv()

    tasks = [gp.spawn(both, a, b), gp.spawn(both, b, a)]
    for task in tasks:
        task.join()


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        (lost_wakeup, gp.Deadlock),
        (lost_update, AssertionError),
        (lost_token, (AssertionError, gp.Deadlock, BaseExceptionGroup)),
        (double_delivery, AssertionError),
    ],
)
def test_a_broken_primitive_is_found_and_its_seed_finds_it_again(
    broken: Callable[[], None], kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(kind) as caught:
        races(seeds=200)(broken)()
    [note] = [note for note in caught.value.__notes__ if note.startswith("seed ")]
    seed = note.split(";")[0].removeprefix("seed ")
    assert f"GREENPUMP_SEED={seed} python -m pytest" in note
    monkeypatch.setenv("GREENPUMP_SEED", seed)
    with pytest.raises(kind) as again:
        races(seeds=1)(broken)()
    assert str(again.value).split("\n")[0] == str(caught.value).split("\n")[0]


def test_not_under_every_seed_else_it_would_be_no_race() -> None:
    for broken in (lost_wakeup, lost_update, lost_token, double_delivery):
        outcomes = set()
        for seed in range(60):
            try:
                one_seed(seed, broken)
            except BaseException:
                outcomes.add("failed")
            else:
                outcomes.add("passed")
        assert outcomes == {"failed", "passed"}, broken


def one_seed(seed: int, test: Callable[[], None]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("GREENPUMP_SEED", str(seed))
        races()(test)()


# -- what it does ----------------------------------------------------------------------------------


def test_it_runs_each_seed_once_the_same_ones_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    draws: list[int] = []

    @races(seeds=7)
    def test() -> None:
        order: list[int] = []
        tasks = [gp.spawn(order.append, number) for number in range(5)]
        for task in tasks:
            task.join()
        draws.append(hash(tuple(order)))

    test()
    first = draws.copy()
    draws.clear()
    test()
    assert draws == first
    assert len(first) == 7
    assert len(set(first)) > 3
    monkeypatch.setenv("GREENPUMP_SEEDS", "12")
    draws.clear()
    test()
    assert draws[:7] == first
    assert len(draws) == 12
    monkeypatch.setenv("GREENPUMP_SEED", "3")
    draws.clear()
    test()
    assert draws == [first[3]]


@pytest.fixture
def three() -> int:
    return 3


@pytest.mark.parametrize("factor", [2, 5])
@races(seeds=3)
def test_fixtures_and_parameters_reach_the_test(three: int, factor: int) -> None:
    assert three * factor in (6, 15)


def test_it_stops_at_the_first_seed_that_fails() -> None:
    ran = 0

    @races(seeds=50)
    def test() -> None:
        nonlocal ran
        ran += 1
        assert ran < 4

    with pytest.raises(AssertionError):
        test()
    assert ran == 4


def test_time_is_virtual_and_starts_anew() -> None:
    @races(seeds=20)
    def test() -> None:
        with pytest.raises(TimeoutError), gp.timeout(3600):
            gp.sleep(7200)

    test()
    assert this_hub().autojump is None


def test_a_deadlock_is_told_at_once_whatever_handlers_and_threads_there_are() -> None:
    before = signal.signal(signal.SIGUSR1, lambda signum, frame: None)
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait)
    thread.start()
    try:
        with pytest.raises(gp.Deadlock, match="none can wake another") as caught:
            races(seeds=50)(deadlock_of_two_locks)()
        assert "both#" in str(caught.value)
        assert "send on <Channel" in str(caught.value)
    finally:
        go_on.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)


class Swallow:
    """A place that has claimed whoever waits there, and never wakes anybody."""

    def abandon(self, task: Task[object]) -> bool:
        return False

    def reason(self, task: Task[object]) -> str:
        return "wait for a wake-up that was lost"

    def wait(self) -> None:
        hub = this_hub()
        hub.wait(hub.prepare(), self)


def test_a_claimed_task_that_is_never_woken_keeps_no_group_waiting_for_ever() -> None:
    @races()
    def in_a_member() -> None:
        with gp.Group() as group:
            group.spawn(Swallow().wait)

    @races()
    def in_the_test() -> None:
        Swallow().wait()

    @races()
    def left_over() -> None:
        gp.spawn(Swallow().wait)
        gp.yield_now()
        gp.yield_now()
        raise ZeroDivisionError

    with pytest.raises(gp.Deadlock, match="wait for a wake-up that was lost for"):
        in_a_member()
    with pytest.raises(gp.Deadlock, match="none can wake another"):
        in_the_test()
    with pytest.raises(ZeroDivisionError):
        left_over()
    assert this_hub().live_tasks() == []


def test_an_offloaded_call_is_no_deadlock() -> None:
    @races(seeds=10)
    def test() -> None:
        assert gp.offload(sum, [1, 2]) == 3

    test()


def test_a_task_left_over_fails_the_test_and_is_ended() -> None:
    @races(seeds=3)
    def test() -> None:
        gp.spawn(gp.sleep, float("inf"))

    with pytest.raises(AssertionError, match=r"its tasks:\ntask sleep#\d+: (not started|sleep)"):
        test()
    assert this_hub().live_tasks() == []


def test_tasks_that_were_there_before_are_left_alone() -> None:
    task = gp.spawn(gp.sleep, float("inf"))
    races(seeds=3)(lambda: gp.sleep(1))()
    with pytest.raises(ZeroDivisionError):
        races(seeds=3)(lambda: gp.sleep(1 // 0))()
    assert not task.done
    task.cancel()
    task.join()


def test_an_error_nobody_takes_notice_of_fails_the_test(capsys: pytest.CaptureFixture[str]) -> None:
    @races(seeds=3)
    def one() -> None:
        gp.spawn(divmod, 1, 0)
        gp.sleep(1)

    @races(seeds=3)
    def two() -> None:
        for _ in range(2):
            gp.spawn(divmod, 1, 0)
        gp.sleep(1)

    @races(seeds=3)
    def also_failed() -> None:
        one.__wrapped__()  # type: ignore[attr-defined]
        raise KeyError

    with pytest.raises(ZeroDivisionError):
        one()
    with pytest.raises(ExceptionGroup) as group:
        two()
    assert [type(error) for error in group.value.exceptions] == [ZeroDivisionError] * 2
    with pytest.raises(KeyError) as key_error:
        also_failed()
    assert any("had failed: ZeroDivisionError" in note for note in key_error.value.__notes__)
    assert capsys.readouterr().err == ""
    gp.spawn(divmod, 1, 0)
    gp.sleep(0)
    assert "ZeroDivisionError" in capsys.readouterr().err, "the hook is back"


def test_a_run_of_its_own_inside_the_test() -> None:
    def main() -> None:
        event = gp.Event()
        gp.spawn(event.wait, 500)
        with pytest.raises(TimeoutError), gp.timeout(100):
            gp.sleep(200)

    races(seeds=3)(lambda: gp.run(main))()
    before = this_hub()
    gp.sleep(0)
    assert type(before) is gp.Hub


@pytest.mark.parametrize("seeds", [0, -1])
def test_no_seed_at_all_is_refused(seeds: int) -> None:
    with pytest.raises(ValueError, match="at least one seed"):
        races(seeds=seeds)


def test_forgotten_parentheses_are_told() -> None:
    with pytest.raises(TypeError, match=r"@races\(\)"):
        races(lost_update)  # type: ignore[arg-type]


def test_nothing_is_left_on_the_hub() -> None:
    hub = this_hub()
    races(seeds=5)(lambda: gp.sleep(1))()
    assert hub.timers.next_deadline() == FAR
    assert hub.live_tasks() == []
    assert type(hub) is gp.Hub
