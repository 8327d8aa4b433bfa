"""What tests of TLS share: an authority of their own, and pairs of connections."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from greenpump.hub.spawning import spawn
from greenpump.net.listen import socketpair
from greenpump.net.tls import SSLSocket, wrap_socket
from tests.net.tls.certificates import Certificates


@pytest.fixture(scope="session")
def certificates(
    tmp_path_factory: pytest.TempPathFactory, require: Callable[[str, object, str], None]
) -> Certificates:
    require("the openssl command", shutil.which("openssl"), "apt install openssl")
    return Certificates(tmp_path_factory.mktemp("certificates"))


Pair = Callable[..., tuple[SSLSocket, SSLSocket]]


@pytest.fixture
def pair(certificates: Certificates) -> Iterator[Pair]:
    """Makes a client and a server, connected, their handshake done."""
    made: list[SSLSocket] = []

    def make(
        *,
        client: Any = None,
        server: Any = None,
        server_hostname: str = "localhost",
        session: Any = None,
        **options: Any,
    ) -> tuple[SSLSocket, SSLSocket]:
        near, far = socketpair()
        accepting = spawn(
            wrap_socket, far, server or certificates.server(), server_side=True, **options
        )
        connected = wrap_socket(
            near,
            client or certificates.client(),
            server_hostname=server_hostname,
            session=session,
            **options,
        )
        made.extend((connected, accepting.result()))
        return connected, made[-1]

    yield make
    for conn in made:
        conn.close()
