"""SSLContext: the stdlib's, whose wrap_socket cooperates."""

from __future__ import annotations

import ssl

from greenpump.hub.spawning import spawn
from greenpump.net.listen import socketpair
from greenpump.net.tls import SSLContext, SSLSocket, create_default_context
from tests.net.tls.certificates import Certificates


def test_wrap_socket_makes_cooperative_connections(certificates: Certificates) -> None:
    near, far = socketpair()
    server = SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificates.issue("localhost", "127.0.0.1"))
    accepting = spawn(server.wrap_socket, far, server_side=True)
    client = create_default_context(cafile=str(certificates.authority))
    with client.wrap_socket(near, server_hostname="localhost") as a, accepting.result() as b:
        assert type(a) is type(b) is SSLSocket
        assert a.context is client


def test_the_default_is_the_stdlibs_default() -> None:
    ours, theirs = create_default_context(), ssl.create_default_context()
    assert type(ours) is SSLContext
    for name in ("check_hostname", "verify_mode", "verify_flags", "options", "minimum_version"):
        assert getattr(ours, name) == getattr(theirs, name)
    server = create_default_context(ssl.Purpose.CLIENT_AUTH)
    assert server.verify_mode == ssl.CERT_NONE
