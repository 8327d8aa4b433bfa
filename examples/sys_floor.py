"""timeout(1) in one epoll: run a command, and stop it after some seconds or at Ctrl-C.

    python -m examples.sys_floor 2.5 sleep 10

The command's end is a pidfd, the time a timerfd, Ctrl-C a signalfd: three fds, one place to wait,
no signal handler and nothing polled. It needs greenpump.sys alone.
"""

from __future__ import annotations

import signal
import subprocess
import sys

from greenpump.sys import EPOLLIN, Epoll, Pidfd, Signalfd, Timerfd

ASKED_TO_STOP = {signal.SIGINT, signal.SIGTERM}


def run(command: list[str], seconds: float) -> int:
    """Run *command* for *seconds* at most; return its exit status, or -N when signal N ended it."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ASKED_TO_STOP)  # now they wait in the signalfd
    try:
        child = subprocess.Popen(
            # A blocked signal stays blocked through exec; the command wants its own Ctrl-C.
            command,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask),
        )
        with (
            Epoll() as epoll,
            Pidfd(child.pid) as ended,
            Timerfd() as time_up,
            Signalfd(ASKED_TO_STOP) as stop,
        ):
            for each in (ended, time_up, stop):
                epoll.add(each.fd, EPOLLIN)
            time_up.arm_after(int(seconds * 1_000_000_000))
            while True:
                ready = [fd for _, fd in epoll.wait()]
                if ended.fd in ready:
                    return child.wait()
                if time_up.fd in ready:
                    time_up.read()
                    child.terminate()
                if stop.fd in ready:
                    for info in stop.read():
                        ended.send_signal(info.signo)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python -m examples.sys_floor SECONDS COMMAND [ARGUMENT ...]")
    try:
        sys.exit(run(sys.argv[2:], float(sys.argv[1])))
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        sys.exit(127)  # as timeout(1)
