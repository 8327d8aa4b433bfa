"""The echo server over TLS, and a client of it.

    python -m examples.tls_echo --self-signed              # makes a certificate (openssl)
    python -m examples.tls_echo --cert cert.pem --key key.pem [--port 7778]
    python -m examples.tls_echo --ask localhost:7778 --trust cert.pem   # what you type comes back

Or ask it with ``openssl s_client -connect 127.0.0.1:7778``. A client that never shakes hands
is sent away after ten seconds, and meanwhile delays nobody.
"""

from __future__ import annotations

import argparse
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import greenpump as gp
from greenpump.net.tls import SSLSocket


def echo(conn: SSLSocket, peer: Any) -> None:
    """Send back what comes, until the peer ends its side or is silent for a minute."""
    print(f"{peer[0]}: {conn.version()} {(conn.cipher() or ['?'])[0]}", flush=True)
    conn.settimeout(60)
    try:
        while data := conn.recv(16 * 1024):
            conn.sendall(data)
    except OSError as error:  # silence, a reset, what is no TLS
        print(f"{peer[0]}: {error}", flush=True)


def serve(address: tuple[str, int], cert: Path, key: Path) -> None:
    """Serve until Ctrl-C."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    listener = gp.listen(address)
    host, port = listener.getsockname()[:2]
    print(f"TLS echo on {host} port {port}; certificate {cert}", flush=True)
    gp.serve(echo, listener, tls=context, handshake_timeout=10)


def ask(address: tuple[str, int], trust: Path | None) -> None:
    """Send the lines of stdin and print what comes back."""
    context = ssl.create_default_context(cafile=trust and str(trust))
    with gp.connect(address, timeout=10, tls=context) as conn:
        for line in sys.stdin:
            conn.sendall(line.encode())
            print(conn.recv_until(b"\n").decode(), end="", flush=True)


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine, good for a day."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 1"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made = subprocess.run(
        [*command.split(), *names, "-out", cert, "-keyout", key], capture_output=True, check=False
    )
    if made.returncode:
        sys.exit(made.stderr.decode())
    return cert, key


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.tls_echo", description="TLS echo.")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=7778, help="0 takes a free one")
    parser.add_argument("--cert", type=Path, help="the server's certificate and chain, PEM")
    parser.add_argument("--key", type=Path, help="its private key, PEM")
    parser.add_argument("--self-signed", action="store_true", help="make both, for trying it")
    parser.add_argument("--ask", metavar="HOST:PORT", help="be the client of this server")
    parser.add_argument("--trust", type=Path, help="the certificate that the client trusts")
    options = parser.parse_args()
    try:
        if options.ask:
            host, _, port = options.ask.rpartition(":")
            gp.run(ask, (host, int(port)), options.trust)
            return 0
        with tempfile.TemporaryDirectory() as folder:
            if options.self_signed:
                options.cert, options.key = self_signed(Path(folder))
            if not (options.cert and options.key):
                parser.error("a server needs --cert and --key, or --self-signed")
            gp.run(serve, (options.host, options.port), options.cert, options.key)
    except KeyboardInterrupt:
        print()
    except OSError as error:  # no such file, the port is taken, a certificate not to be trusted
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
