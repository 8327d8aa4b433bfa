"""The operating system's accounting, where it can be checked against another source."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bench.accounting import Stopwatch, cpu_ns, family, open_fds, rss_bytes


def test_cpu_clock_of_a_pid_is_the_process_clock() -> None:
    before = time.process_time_ns()
    seen = cpu_ns(os.getpid())
    after = time.process_time_ns()
    assert before <= seen <= after


def test_rss_grows_by_what_is_touched() -> None:
    before = rss_bytes()
    block = bytearray(b"x") * (16 << 20)
    grown = rss_bytes(os.getpid()) - before
    assert len(block) * 0.9 < grown < len(block) * 1.5


def test_open_fds_counts_a_new_one() -> None:
    before = open_fds(os.getpid())
    fd = os.open("/dev/null", os.O_RDONLY)
    try:
        assert open_fds(os.getpid()) == before + 1
    finally:
        os.close(fd)


def test_a_family_is_a_process_its_children_and_theirs() -> None:
    code = """if True:
        import subprocess, sys
        with subprocess.Popen(["cat"]) as child:
            print(child.pid, flush=True)
            sys.exit(child.wait())
        """
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert family(parent.pid) == [parent.pid, child]
        assert family(child) == [child]
        assert {parent.pid, child} < set(family(os.getpid()))
        parent.stdin.close()
        assert parent.wait(30) == 0


def test_stopwatch_divides_by_the_events() -> None:
    watch = Stopwatch()
    watch.start()
    until = time.process_time_ns() + 2_000_000
    while time.process_time_ns() < until:
        pass
    per_event = watch.stop(10)
    assert per_event["events"] == 10
    assert 200 <= per_event["cpu_us"] <= per_event["wall_us"] * 1.05
