"""A print shop: urgent jobs first, no more of them than fit on the counter, and a closing time.

    python -m examples.queues

Customers bring jobs to a PriorityQueue and wait while the counter is full; printers take the most
urgent. At closing time the queue is shut down: who comes later is sent away, what lies on the
counter is still printed, and then the printers stop by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import greenpump as gp

COUNTER = 4
SECONDS_A_PAGE = 0.01


@dataclass(order=True)
class Job:
    urgency: int  # 0: at once
    title: str = field(compare=False)
    pages: int = field(compare=False)


def bring(counter: gp.PriorityQueue[Job], jobs: list[Job], sent_away: list[str]) -> None:
    """Put one job after the other onto the counter."""
    for job in jobs:
        try:
            counter.put(job)
        except gp.ShutDown:
            sent_away.append(job.title)


def print_jobs(counter: gp.PriorityQueue[Job], printed: list[str]) -> None:
    """Print until the shop is closed and the counter is empty."""
    while True:
        try:
            job = counter.get()
        except gp.ShutDown:
            return
        gp.sleep(job.pages * SECONDS_A_PAGE)
        printed.append(job.title)
        counter.task_done()


def a_day(jobs: list[Job], late: list[Job], printers: int = 2) -> tuple[list[str], list[str]]:
    """What was printed, in this order, and who was sent away."""
    counter = gp.PriorityQueue[Job](COUNTER)
    printed: list[str] = []
    sent_away: list[str] = []
    with gp.Group() as shop:
        bring(counter, jobs[:COUNTER], sent_away)
        for _ in range(printers):
            shop.spawn(print_jobs, counter, printed)
        bring(counter, jobs[COUNTER:], sent_away)
        counter.join()  # all that was brought is printed
        counter.shutdown()
        bring(counter, late, sent_away)
    return printed, sent_away


def main() -> None:
    jobs = [
        Job(2, "thesis", 20),
        Job(1, "menu", 2),
        Job(0, "ticket", 1),
        Job(2, "novel", 30),
        Job(1, "poster", 3),
        Job(0, "passport", 1),
    ]
    printed, sent_away = a_day(jobs, late=[Job(0, "tax return", 4)])
    print("printed:", *printed, sep="\n  ")
    print("too late:", *sent_away, sep="\n  ")


if __name__ == "__main__":
    main()
