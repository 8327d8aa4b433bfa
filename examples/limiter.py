"""A client that keeps to what a server allows: ten requests a second, three at once after a pause.

    python -m examples.limiter

Seven pages are fetched by a task each; the limiter lets them go one by one. One task gives up while
it waits, and those behind it move up. Whoever can't wait asks first: ``allow`` says no, and
``reserve`` says when.
"""

from __future__ import annotations

from time import monotonic

import greenpump as gp

LIMIT = 10
BURST = 3


def fetch(limiter: gp.RateLimiter, page: int, fetched: list[tuple[int, float]]) -> None:
    """Wait for one's turn, and note which page was fetched when."""
    limiter.wait()
    fetched.append((page, monotonic()))


def fetch_all(limiter: gp.RateLimiter, pages: int, given_up: int) -> list[tuple[int, float]]:
    """Fetch all pages but one."""
    fetched: list[tuple[int, float]] = []
    with gp.Group() as group:
        tasks = [group.spawn(fetch, limiter, page, fetched) for page in range(pages)]
        gp.sleep(1.5 / LIMIT)
        tasks[given_up].cancel()
    return fetched


def main() -> None:
    limiter = gp.RateLimiter(LIMIT, burst=BURST)
    start = monotonic()
    for page, when in fetch_all(limiter, 7, given_up=4):
        print(f"{when - start:.1f} s: page {page}")
    print(f"one more right now: {limiter.allow()}")
    reservation = limiter.reserve(2)
    print(f"two more: in {reservation.delay():.1f} s")
    reservation.cancel()


if __name__ == "__main__":
    main()
