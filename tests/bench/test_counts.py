"""What an echoed message costs in the steady state, exactly: the same on every run and machine.

These are not about speed but about what a change of the hot path adds to each message.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import counts
from bench.counts import MEMORY, Cost, Way
from bench.instructions import BATCH
from bench.load import Load
from bench.outcome import FailedError
from bench.process import ROOT
from greenpump.hub.local import FREE_THREADED

Costs = dict[str, Cost]

WAYS = {
    "a task": Way(),
    "a task, timeout": Way(timeout=60.0),
    "detached": Way(detached=True),
}

# At most so many bytecodes of greenpump's a message, in each of these ways: what there were when
# this was written. More need a reason (docs/performance.md); for fewer lower the figure.
BYTECODES = {(3, 11): (217, 321, 205), (3, 12): (203, 297, 197), (3, 13): (203, 299, 201)}
# Without the GIL the hub is asked of the task, not of the thread's locals (hub/local.py).
WITHOUT_GIL = {(3, 13): (203, 301, 201)}
# A Python that is not listed compiles differently, but hardly to more than the one that has most.
OTHERS = max(BYTECODES.values())


@pytest.fixture(scope="module")
def strace(require: Callable[[str, object, str], None]) -> None:
    require("strace", shutil.which("strace"), "apt-get install strace")


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


@pytest.fixture(scope="module")
def found(strace: None, way: Way) -> Costs:
    """Counted in a process of its own: a hub that other tests have used may have more to do."""
    command = [sys.executable, "-m", "bench.counts", "--json", *way.arguments()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=True)
    return {name: Cost(*cost) for name, cost in json.loads(done.stdout).items()}


def test_a_message_is_one_recv_one_send_and_nothing_else(found: Costs, way: Way) -> None:
    """By strace. A recv or send without flags is a read or write, where no time limit is set.

    The client has greenpump's sockets for the last of a batch, and the stdlib's for the others.
    """
    kernel = {
        name.removeprefix("system call "): cost
        for name, cost in found.items()
        if name.startswith("system call ")
    }
    waits = [kernel.pop(name) for name in ("epoll_wait", "epoll_pwait") if name in kernel]
    # One finds the whole batch, another the last echo, for which the client parks.
    assert waits == [Cost(0, 2)]
    clients = {"recvfrom": Cost(1, -1), "sendto": Cost(1, -1)}
    if way.timeout is None:
        assert kernel == {"read": Cost(1, 1), "write": Cost(1, 1), **clients}
    else:
        assert kernel == {
            **clients,
            "recvfrom": Cost(2, -1),
            "read": Cost(0, 1),
            "write": Cost(1, 1),
        }


def test_the_hub_counts_its_polls_as_the_kernel_does(found: Costs) -> None:
    assert found["polls"] == Cost(0, 2)
    assert found["events"] == Cost(1, 1)


def test_a_message_is_one_switch_or_none(found: Costs, way: Way) -> None:
    assert found["switches"] == (Cost(0, 2) if way.detached else Cost(1, 1))


def test_a_message_takes_no_more_bytecodes_than_it_did(found: Costs, way: Way) -> None:
    per_message = found["bytecodes"].per_message
    assert per_message == int(per_message), "not the same for every message"
    figures = {**BYTECODES, **WITHOUT_GIL} if FREE_THREADED else BYTECODES
    most = figures.get(sys.version_info[:2], OTHERS)[list(WAYS.values()).index(way)]
    assert 0 < per_message <= most, {k: v for k, v in found.items() if k.startswith("bytecodes")}


# The same over TCP, from another process, with all that a connection's beginning and end cost.
CONNECTIONS = 50
SERVER = f"""
import greenpump as gp

def echo(conn):
    conn.settimeout(60)
    while data := conn.recv(16384):
        conn.sendall(data)
    conn.close()

with gp.listen(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    tasks = [gp.spawn(echo, listener.accept()[0]) for _ in range({CONNECTIONS})]
for task in tasks:
    task.join()
"""


@pytest.mark.usefixtures("gcc", "strace")
def test_over_tcp_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    server = subprocess.Popen(
        [*counts.strace(str(log)), sys.executable, "-c", SERVER],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        report = Load(port, CONNECTIONS, warmup=0, seconds=30, messages=4000).run()
        assert server.wait(30) == 0
    finally:
        server.kill()
        server.communicate()
    names = counts.called(log.read_text().splitlines())
    accepts = [place for place, name in enumerate(names) if name.startswith("accept")]
    start = accepts[-1]
    kernel = Counter(names[start:])
    echoed = report["total_messages"]
    assert echoed >= 4000
    earlier = Counter(names[accepts[0] : start])  # who came first may have been answered by then
    assert earlier["write"] + kernel["write"] == echoed
    # The end of each connection is one recv, and its beginning may be another that comes too soon.
    received = earlier["recvfrom"] + kernel["recvfrom"]
    assert echoed + CONNECTIONS <= received <= echoed + 2 * CONNECTIONS
    waited = kernel.pop("epoll_wait", 0) + kernel.pop("epoll_pwait", 0)
    assert waited <= echoed
    # All else is for the connections and the interpreter's end, not for messages.
    del kernel["recvfrom"], kernel["write"]
    assert kernel.total() < 10 * CONNECTIONS + 500, kernel


# Datagrams and short connections: what five batches more cost, all in one process.
BATCHES = 5
EVENTS = BATCHES * BATCH


CLIENT_READS = {"udp": "read", "accept": "recvfrom"}


def more_of(work: str) -> Counter[str]:
    """The system calls of so many events, their client's among them, and of nothing else."""
    program = [sys.executable, "-m", "bench.instructions", work, "--child"]
    kernel = Counter(counts.traced([*program, str(2 * EVENTS)]))
    kernel.subtract(counts.traced([*program, str(EVENTS)]))
    kernel["epoll_wait"] += kernel.pop("epoll_pwait", 0)
    # The client's, who tries in vain as long as the answers aren't there; and CPython's own where
    # it has no GIL.
    del kernel[CLIENT_READS[work]], kernel["sched_yield"], kernel["futex"]
    return Counter({name: n for name, n in kernel.items() if n and name not in MEMORY})


@pytest.mark.usefixtures("strace")
def test_a_datagram_is_one_recvfrom_and_one_sendto() -> None:
    assert more_of("udp") == {
        "recvfrom": EVENTS + BATCHES,  # the end of a burst is found out by a recvfrom in vain
        "sendto": 2 * EVENTS,  # one is the client's
        "poll": BATCHES,  # whether what woke the server was alone
        "epoll_wait": 2 * BATCHES,
    }


@pytest.mark.usefixtures("strace")
def test_a_short_connection_is_not_registered() -> None:
    assert more_of("accept") == {
        "accept4": EVENTS + BATCHES,
        "getsockname": EVENTS,  # socket.socket's constructor
        "ioctl": 2 * EVENTS,  # O_NONBLOCK, which CPython's accept4 doesn't pass; and the client's
        "read": 2 * EVENTS,  # the request, and the end of the stream
        "write": EVENTS,
        "close": 2 * EVENTS,
        "poll": BATCHES,
        "epoll_wait": 2 * BATCHES,
        # The client's own.
        "socket": EVENTS,
        "connect": EVENTS,
        "sendto": EVENTS,
    }


# -- the counting itself ---------------------------------------------------------------------------


def test_two_sizes_of_a_batch_tell_what_is_shared_from_what_is_not() -> None:
    def count(connections: int, way: Way) -> Counter[str]:
        rounds = counts.ROUNDS
        return Counter(a=(3 + 2 * connections) * rounds, b=7 * rounds, brk=connections)

    assert counts.costs(count) == {"a": Cost(2, 3), "b": Cost(0, 7)}
    assert counts.total(counts.costs(count)) == Cost(2, 10)


def test_an_interrupted_call_is_counted_once() -> None:
    log = [
        '12  recvfrom(5, "x", 448, 0, NULL, NULL) = 64',
        "12  epoll_wait(3,  <unfinished ...>",
        "13  futex(0x7f, FUTEX_WAKE_PRIVATE, 1) = 1",
        "12  <... epoll_wait resumed>[{EPOLLIN, {u32=5}}], 256, 50) = 1",
        "12  +++ exited with 0 +++",
    ]
    assert counts.called(log) == ["recvfrom", "epoll_wait", "futex"]


@pytest.mark.usefixtures("strace")
def test_a_program_that_fails_is_not_counted() -> None:
    with pytest.raises(FailedError, match="exit status 3"):
        counts.traced([sys.executable, "-c", "raise SystemExit(3)"])
