"""A race in a program, found by trying orders of its tasks, and gone once it is mended.

    python -m examples.races

A box office sells 3 seats. ``Careless.sell`` looks whether a seat is left, charges the card, which
takes a moment, and only then takes the seat: two customers may look before either takes. With the
order that tasks usually run in, first come, first served, it does well, so an ordinary test passes.
Under some seed it doesn't, and that seed shows it again and again.
"""

from __future__ import annotations

from collections.abc import Callable

import greenpump as gp
from greenpump.testing import races, seeded, virtual_clock


class Careless:
    """Looks, waits, and acts on what it saw before."""

    def __init__(self, seats: int) -> None:
        self.seats = seats
        self._terminal = gp.Channel[None](1)

    def sell(self) -> bool:
        """Sell one seat; whether there was one. Parks while the card is charged."""
        if self.seats < 1:
            return False
        self._charge()
        self.seats -= 1
        return True

    def _charge(self) -> None:
        """One card at a time: who finds the terminal in use waits."""
        self._terminal.send(None)
        gp.yield_now()
        self._terminal.recv()


class Careful(Careless):
    """Takes the seat before it waits, and gives it back if the charge fails."""

    def sell(self) -> bool:
        if self.seats < 1:
            return False
        self.seats -= 1
        try:
            self._charge()
        except BaseException:
            self.seats += 1
            raise
        return True


def evening(office: Careless) -> None:
    """Five customers for three seats, one after the other: three are sold."""
    seats = office.seats
    sold: list[bool] = []

    def customer(after: int) -> None:
        for _ in range(after):
            gp.yield_now()
        sold.append(office.sell())

    with gp.Group() as group:
        for number in range(5):
            group.spawn(customer, 3 * number)
    assert sold.count(True) == seats, f"{sold.count(True)} sold of {seats}"
    assert office.seats == 0


def first_failure(make: Callable[[int], Careless]) -> AssertionError | None:
    """What ``races`` finds, as it would above a test."""
    try:
        races(seeds=200)(lambda: evening(make(3)))()
    except AssertionError as error:
        return error
    return None


def main() -> None:
    evening(Careless(3))
    print("one run, first in, first out: fine")
    error = first_failure(Careless)
    assert error is not None
    note = error.__notes__[0]
    print(f"200 seeds: {error}")
    print(note.partition(";")[0])
    seed = int(note.partition(";")[0].removeprefix("seed "))
    for _ in range(3):
        try:
            with virtual_clock(), seeded(seed):
                evening(Careless(3))
        except AssertionError as again:
            print(f"again: {again}")
    assert first_failure(Careful) is None
    print("mended: fine under every seed")


if __name__ == "__main__":
    main()
