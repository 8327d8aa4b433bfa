"""Transfers between accounts, each made of steps between which others run.

    python -m examples.mutex

A transfer reads two balances, waits (for a disk, say) and writes them. Without the mutex transfers
that run at once overwrite each other's, and money appears or is lost; with it the sum stays.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import greenpump as gp

ACCOUNTS = 10
START = 100


def transfer(accounts: list[int], source: int, target: int, amount: int) -> None:
    """Move ``amount``, if it is there."""
    if accounts[source] < amount:
        return
    left, got = accounts[source] - amount, accounts[target] + amount
    gp.yield_now()  # whatever takes a while
    accounts[source], accounts[target] = left, got


def total_after(transfers: int, guard: AbstractContextManager[object]) -> int:
    """What all accounts hold after so many transfers at once, each made under ``guard``."""
    accounts = [START] * ACCOUNTS

    def guarded(number: int) -> None:
        source, steps = number % ACCOUNTS, 1 + number % (ACCOUNTS - 1)
        with guard:
            transfer(accounts, source, (source + steps) % ACCOUNTS, 1 + number % 11)

    with gp.Group() as group:
        for number in range(transfers):
            group.spawn(guarded, number)
    return sum(accounts)


def main() -> None:
    print(f"of {ACCOUNTS * START}, left without a mutex: {total_after(1000, nullcontext())}")
    print(f"of {ACCOUNTS * START}, left with one: {total_after(1000, gp.Mutex())}")


if __name__ == "__main__":
    main()
