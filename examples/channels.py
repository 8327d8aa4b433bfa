"""Workers between two channels, in Go's style: a bounded pipeline that ends in order.

    python -m examples.channels

Four workers look for primes. Numbers come by one channel and primes leave by another; both are
bounded, so nobody runs ahead. One select collects the primes, says every so often how far it is,
and stops early when enough were found.
"""

from __future__ import annotations

import greenpump as gp

WORKERS = 4


def generate(numbers: gp.Channel[int], first: int, stop: gp.Event) -> None:
    """Send number after number until ``stop`` is set; then nobody will send any more."""
    number = first
    while gp.select(gp.sending(numbers, number), stop)[0] == 0:
        number += 1
    numbers.close()


def filter_primes(numbers: gp.Channel[int], primes: gp.Channel[int]) -> None:
    """Pass on what is prime, until the numbers end."""
    for number in numbers:
        if all(number % divisor for divisor in range(2, int(number**0.5) + 1)):
            primes.send(number)


def find_primes(first: int, count: int, report_every: float = 1.0) -> list[int]:
    """The first ``count`` primes from ``first`` on, in order."""
    numbers, primes = gp.Channel[int](16), gp.Channel[int]()
    stop = gp.Event()
    found: list[int] = []
    with gp.Group() as group:
        group.spawn(generate, numbers, first, stop)
        workers = [group.spawn(filter_primes, numbers, primes) for _ in range(WORKERS)]
        group.spawn(close_after, workers, primes)
        while True:
            match gp.select(gp.receiving(primes), timeout=report_every):
                case 0, end if end is gp.CLOSED:
                    break
                case 0, prime:
                    found.append(prime)
                    if len(found) == count:
                        stop.set()  # the others finish what they have, so that none is left out
                case None:
                    print(f"{len(found)} primes so far")
    return sorted(found)[:count]


def close_after(workers: list[gp.Task[None]], primes: gp.Channel[int]) -> None:
    """Close ``primes`` when the last one that sends on it has ended."""
    for worker in workers:
        worker.join()
    primes.close()


def main() -> None:
    print(*find_primes(10**9, 10), sep="\n")


if __name__ == "__main__":
    main()
