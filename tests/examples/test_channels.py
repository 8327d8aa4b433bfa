"""``python -m examples.channels``: its parts, and the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import greenpump as gp
from examples.channels import filter_primes, find_primes, generate
from greenpump.sync.channel import Channel
from greenpump.testing import wait_all_parked

ROOT = Path(__file__).parents[2]


def test_numbers_come_until_stop() -> None:
    numbers, stop = Channel[int](), gp.Event()
    task = gp.spawn(generate, numbers, 5, stop)
    assert [numbers.recv() for _ in range(3)] == [5, 6, 7]
    wait_all_parked()
    stop.set()
    task.result()
    with pytest.raises(gp.ChannelClosed):
        numbers.recv()


def test_primes_pass() -> None:
    numbers, primes = Channel[int](20), Channel[int](20)
    for number in range(2, 20):
        numbers.send(number)
    numbers.close()
    filter_primes(numbers, primes)
    primes.close()
    assert list(primes) == [2, 3, 5, 7, 11, 13, 17, 19]


@pytest.mark.parametrize("count", [1, 7, 100])
def test_none_is_left_out(count: int) -> None:
    primes = find_primes(1000, count)
    below = [n for n in range(1000, primes[-1] + 1) if all(n % d for d in range(2, n))]
    assert primes == below
    assert len(primes) == count


def test_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.channels"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    primes = [int(line) for line in done.stdout.splitlines() if line.isdigit()]
    assert len(primes) == 10
    assert primes[0] == 1_000_000_007
