"""A daemon's signals as messages: reload on SIGHUP, report on SIGUSR1, end on SIGTERM.

    python -m examples.signals

It signals itself. Given a number of seconds as argument it runs that long, for you to try
``kill -HUP`` on it; Ctrl-C ends it as ever, since SIGINT wasn't asked for.
"""

from __future__ import annotations

import os
import signal
import sys

import greenpump as gp
from greenpump.signals import signals


def work(jobs_done: list[int]) -> None:
    """What the daemon is there for."""
    while True:
        gp.sleep(0.001)
        jobs_done.append(len(jobs_done))


def serve() -> None:
    """Work until SIGTERM."""
    jobs_done: list[int] = []
    # From here on these signals don't end the process, and none is lost.
    with signals(signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM) as arriving:
        print(f"serving as process {os.getpid()}", flush=True)
        worker = gp.spawn(work, jobs_done)
        for signum in arriving:
            if signum == signal.SIGHUP:
                print("reloading the configuration", flush=True)
            elif signum == signal.SIGUSR1:
                print("some jobs done" if jobs_done else "nothing done yet", flush=True)
            else:
                break
        worker.cancel("the daemon ends")
        worker.join()
    print("ended in order")


def signal_oneself(pause: float) -> None:
    """What an operator would do from a shell."""
    for signum in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
        gp.sleep(pause)
        os.kill(os.getpid(), signum)


def main() -> None:
    """Serve, and send the signals for it to end."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 0.3
    gp.spawn(signal_oneself, seconds / 3)
    serve()


if __name__ == "__main__":
    gp.run(main)
