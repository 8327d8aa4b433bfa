"""What every test gets: no leaked fd or thread, and no silent skip in CI.

Leaks are counted around each test, from outside, in /proc: a table kept by the code under test
would forget just what that code forgot.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

# CI has the time limit of pytest-timeout; hypothesis' own deadlines would measure the other core.
settings.register_profile("greenpump", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("greenpump")

FAILED = pytest.StashKey[bool]()
EXIT_STATUS = pytest.StashKey[int]()

# How long what a test ended may take to be gone: a joined thread leaves /proc a moment later.
GRACE = 2.0


# -- what must be there ------------------------------------------------------------------------


def require(component: str, present: object, how_to_install: str) -> None:
    """Go on if the component is present. If not: a failure in CI, a skip with the reason elsewhere.

    CI installs everything (.ci/run), so there a missing component is a broken CI, and a skip would
    say nothing about it for months. Call it in a test, or in a fixture; both may also ask for the
    fixture of the same name.
    """
    if present:
        return
    reason = f"needs {component}: {how_to_install}"
    if os.environ.get("CI", "").lower() in ("", "0", "false"):
        pytest.skip(reason)
    pytest.fail(f"{reason} (in CI a missing component fails: add it to .ci/run)", pytrace=False)


@pytest.fixture(name="require", scope="session")
def _require() -> Callable[[str, object, str], None]:
    return require


# -- leaks ---------------------------------------------------------------------------------------


def open_fds() -> dict[int, str]:
    """Every open fd and what it is: {5: 'socket:[1234]'}."""
    fds = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            fds[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the fd that listdir itself had open
    return fds


def os_threads() -> set[int]:
    """Every thread of this process, also those that Python does not know of."""
    return {int(name) for name in os.listdir("/proc/self/task")}


def hub_fds() -> set[int]:
    """The fds of live hubs: a thread keeps its hub, made at first use, until it ends."""
    # Not imported here: a hub module that no test has imported holds nothing.
    hub = sys.modules.get("greenpump.hub.hub")
    live_fds = getattr(hub, "live_fds", None)
    return set(live_fds()) if live_fds is not None else set()


def leaked_fds(before: dict[int, str]) -> dict[int, str]:
    """The fds opened since, by number and by what they are: a number may be closed and reused."""
    now = open_fds()
    if now == before:
        return {}
    hubs = hub_fds()
    return {
        fd: what for fd, what in sorted(now.items()) if before.get(fd) != what and fd not in hubs
    }


def retire_idle_threads() -> None:
    """End the pool threads that wait for the next offload: by themselves they stay for a while."""
    offload = sys.modules.get("greenpump.offload")
    if offload is not None:
        offload.retire_idle()


def leaked_threads(before: set[int]) -> dict[int, str]:
    """The threads started since, with a name: Python's where it has one, else the kernel's."""
    new = os_threads() - before
    if not new:
        return {}
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    found = {}
    for tid in sorted(new):
        try:
            with open(f"/proc/self/task/{tid}/comm") as comm:
                found[tid] = names.get(tid) or comm.read().strip()
        except (FileNotFoundError, ProcessLookupError):
            continue  # gone meanwhile
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves an fd or a thread behind, and name what it left.

    It is set up before a test's other fixtures and torn down after them, so what they own is
    counted too; a fixture of wider scope comes before it, and may keep what it holds.
    """
    fds, threads = open_fds(), os_threads()
    yield
    if request.node.stash.get(FAILED, False):
        return  # its traceback holds its locals; one failure is enough to say
    if os_threads() != threads:
        retire_idle_threads()
    left_fds, left_threads = leaked_fds(fds), leaked_threads(threads)
    if not left_fds and not left_threads:
        return
    # What only sat in a reference cycle is no leak: an owner that minds warns in its finaliser
    # (ResourceWarning), and warnings are errors here.
    gc.collect()
    deadline = time.monotonic() + GRACE
    while left_fds or left_threads:
        left_fds, left_threads = leaked_fds(fds), leaked_threads(threads)
        if time.monotonic() > deadline:
            break
        time.sleep(0.002)
    said = [f"fd {fd} -> {what}" for fd, what in left_fds.items()]
    said += [f"thread {tid} {name!r}" for tid, name in left_threads.items()]
    if said:
        kinds = Counter(what.split(":")[0] for what in left_fds.values())
        total = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        pytest.fail(
            f"the test left behind{f' ({total})' if total else ''}:\n  " + "\n  ".join(said),
            pytrace=False,
        )


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[EXIT_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Don't let a thread that a failed test left behind keep Python from exiting, for ever."""

    def alive() -> list[threading.Thread]:
        main = threading.main_thread()
        return [each for each in threading.enumerate() if each is not main and not each.daemon]

    deadline = time.monotonic() + GRACE
    while alive() and time.monotonic() < deadline:
        time.sleep(0.002)
    if names := ", ".join(repr(thread.name) for thread in alive()):
        print(f"exiting though threads still run: {names}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash.get(EXIT_STATUS, 1) or 1)
