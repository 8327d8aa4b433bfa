"""Two hosts and the cable between them, which may be cut: network namespaces, and root's to make.

A cut loses every packet, in both directions, and tells nobody: each host sends to an address that
no network card has. (``tc netem`` would do the same where the kernel has it.)
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

Host = Literal["server", "client"]
ADDRESSES: dict[Host, str] = {"server": "10.77.0.1", "client": "10.77.0.2"}
NOBODY = "02:00:00:00:00:99"
CLONE_NEWNET = 0x40000000  # <linux/sched.h>

_libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """In a with-statement it is there."""

    def __init__(self) -> None:
        self._names = {host: f"greenpump-{os.getpid()}-{host}" for host in ADDRESSES}

    def __enter__(self) -> Network:
        try:
            for host in ADDRESSES:
                ip("netns", "add", self._names[host])
            one, two = self._names.values()
            ip("link", "add", "cable", "netns", one, "type", "veth", "peer", "cable", "netns", two)
            for host, address in ADDRESSES.items():
                self._ip(host, "addr", "add", f"{address}/24", "dev", "cable")
                self._ip(host, "link", "set", "lo", "up")
                self._ip(host, "link", "set", "cable", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        for name in self._names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def cut(self) -> None:
        """From now on packets get lost."""
        for host in ADDRESSES:
            other = self._other(host)
            self._ip(host, "neigh", "replace", other, "lladdr", NOBODY, "dev", "cable")

    def mend(self) -> None:
        for host in ADDRESSES:
            self._ip(host, "neigh", "del", self._other(host), "dev", "cable")

    @contextmanager
    def on(self, host: Host) -> Iterator[None]:
        """The calling thread is on that host: sockets that it makes, processes that it starts."""
        with open("/proc/thread-self/ns/net") as here:
            with open(f"/run/netns/{self._names[host]}") as there:
                _enter(there.fileno())
            try:
                yield
            finally:
                _enter(here.fileno())

    def _ip(self, host: Host, *arguments: str) -> None:
        ip("-n", self._names[host], *arguments)

    def _other(self, host: Host) -> str:
        return ADDRESSES["client" if host == "server" else "server"]


def ip(*arguments: str) -> None:
    """The program of iproute2."""
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def require_network(require: Callable[[str, object, str], None]) -> None:
    """Skip where there is no such thing; a failure in CI."""
    require("ip", shutil.which("ip"), "apt-get install iproute2")
    try:
        with Network():
            pass
    except OSError as error:
        require(f"network namespaces ({error})", None, "run it as root, with CAP_SYS_ADMIN")


def _enter(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")
