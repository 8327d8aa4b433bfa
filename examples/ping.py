"""ping(8) for several hosts at once: raw sockets, one task for each host.

    python -m examples.ping [-c COUNT] [-i SECONDS] [-W SECONDS] host ...

Raw sockets need root or CAP_NET_RAW. The exit status is that of ping: 0 if every request was
answered, 1 if one wasn't, 2 if a host could not be pinged at all. Source: RFC 792, RFC 1071, man 7
raw.
"""

from __future__ import annotations

import argparse
import errno
import os
import socket
import struct
import sys
import time
from dataclasses import dataclass, field

import greenpump as gp

ECHO_REPLY, ECHO_REQUEST = 0, 8
HEADER = struct.Struct("!BBHHH")
"""Type, code, checksum, identifier, sequence number."""
PAYLOAD = bytes(range(56))
GREATEST_DATAGRAM = 65535


def checksum(data: bytes) -> int:
    """The ones' complement of the ones' complement sum of all 16-bit words (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def request(identifier: int, sequence: int) -> bytes:
    """An ICMP echo request."""
    blank = HEADER.pack(ECHO_REQUEST, 0, 0, identifier, sequence) + PAYLOAD
    return HEADER.pack(ECHO_REQUEST, 0, checksum(blank), identifier, sequence) + PAYLOAD


def is_reply(datagram: bytes, identifier: int, sequence: int) -> bool:
    """Whether an IPv4 datagram answers that request.

    A raw socket gets a copy of every ICMP message that comes from its host, those for other
    programs included; on loopback also the requests.
    """
    if not datagram:
        return False
    message = datagram[(datagram[0] & 15) * 4 :]  # behind the IP header, whose length it tells
    if len(message) < HEADER.size or checksum(message):
        return False
    kind, _, _, its_identifier, its_sequence = HEADER.unpack_from(message)
    return (kind, its_identifier, its_sequence) == (ECHO_REPLY, identifier, sequence)


@dataclass
class Tally:
    """What came of a host's requests. Times are in seconds."""

    sent: int = 0
    times: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        lost = self.sent - len(self.times)
        text = f"{self.sent} sent, {len(self.times)} answered, {100 * lost // self.sent} % lost"
        if self.times:
            least, mean, most = min(self.times), sum(self.times) / len(self.times), max(self.times)
            text += f", min/avg/max {least * 1e3:.3f}/{mean * 1e3:.3f}/{most * 1e3:.3f} ms"
        return text


def exchange(sock: gp.Socket, identifier: int, sequence: int, patience: float) -> float | None:
    """Send one request and wait for its answer; how long it took, or None if none came."""
    start = time.perf_counter()
    with gp.move_on_after(patience):
        sock.send(request(identifier, sequence))
        while not is_reply(sock.recv(GREATEST_DATAGRAM), identifier, sequence):
            pass
        return time.perf_counter() - start
    return None


def ping(sock: gp.Socket, name: str, options: argparse.Namespace) -> Tally:
    """Ping the host that ``sock`` is connected to, once every ``interval`` seconds."""
    tally = Tally()
    identifier = os.getpid() & 0xFFFF
    for sequence in range(1, options.count + 1):
        if tally.sent:
            gp.sleep(options.interval)
        tally.sent += 1
        try:
            took = exchange(sock, identifier, sequence & 0xFFFF, options.patience)
        except OSError as error:  # an ICMP error came back, or the interface is down
            print(f"{name}: seq={sequence} {error.strerror}", flush=True)
            continue
        if took is None:
            print(f"{name}: seq={sequence} no answer in {options.patience:g} s", flush=True)
        else:
            tally.times.append(took)
            print(f"{name}: seq={sequence} time={took * 1e3:.3f} ms", flush=True)
    return tally


def ping_host(host: str, options: argparse.Namespace) -> int:
    """Look the host up, ping it and say what came of it; the exit status that this makes."""
    try:
        address = gp.resolve(host, 0, socket.AF_INET, socket.SOCK_DGRAM)[0][4][0]
        with gp.Socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
            sock.connect((address, 0))  # so that only messages from there are received
            tally = ping(sock, host, options)
    except OSError as error:
        hint = ": raw sockets need root or CAP_NET_RAW" if error.errno == errno.EPERM else ""
        print(f"{host}: {error.strerror}{hint}", file=sys.stderr)
        return 2
    print(f"{host}: {tally}")
    return 0 if len(tally.times) == tally.sent else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.ping", description="ping for many.")
    parser.add_argument("hosts", nargs="+", metavar="host")
    parser.add_argument("-c", dest="count", type=int, default=4, help="requests to each host")
    parser.add_argument("-i", dest="interval", type=float, default=1.0, help="seconds in between")
    parser.add_argument("-W", dest="patience", type=float, default=1.0, help="seconds to wait")
    options = parser.parse_args()
    if options.count < 1:
        parser.error("-c needs at least one request")
    with gp.Group() as group:
        tasks = [group.spawn(ping_host, host, options) for host in options.hosts]
    return max(task.result() for task in tasks)


if __name__ == "__main__":
    sys.exit(main())
