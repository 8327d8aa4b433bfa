"""C on level-triggered epoll (`c/echo_epoll.c`): the floor."""

from __future__ import annotations

import os

from bench.build import binary


def run(port: int, recv_size: int) -> None:
    program = binary("echo_epoll")
    os.execv(program, [program.name, str(port), str(recv_size)])
