"""C that blocks in recvfrom (`c/echo_udp.c`): the floor."""

from __future__ import annotations

import os

from bench.build import binary


def run(port: int, recv_size: int) -> None:
    program = binary("echo_udp")
    os.execv(program, [program.name, str(port), str(recv_size)])
