"""``python -m examples.chat``: real sockets, the stdlib's client, and a server that is killed."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.examples.chat_server import ChatServer, announced_port, run_chat


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as server:
        yield server


def connection(port: int) -> closing[http.client.HTTPConnection]:
    return closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20))


def publish(client: http.client.HTTPConnection, msg: str) -> None:
    body = json.dumps({"channel": "room", "sname": "bob", "msg": msg})
    client.request("POST", "/publish", body, {"Content-Type": "application/json"})
    response = client.getresponse()
    response.read()
    assert response.status == 200


def poll(client: http.client.HTTPConnection, **fields: object) -> list[dict[str, Any]]:
    query = urlencode({"channel": "room", "sname": "ann", **fields})
    client.request("GET", f"/subscribe?{query}")
    response = client.getresponse()
    items: list[dict[str, Any]] = json.loads(response.read())
    assert response.status == 200
    return items


def test_one_thread_polls_what_another_publishes(server: ChatServer) -> None:
    seen: list[str] = []

    def follow() -> None:
        seqid = 0
        with connection(server.port) as client:
            while len(seen) < 50:
                items = poll(client, seqid=seqid)
                seen.extend(item["msg"] for item in items if item["type"] == "MSG")
                seqid = items[-1]["seqid"] + 1

    follower = threading.Thread(target=follow)
    follower.start()
    with connection(server.port) as client:
        for number in range(50):
            publish(client, str(number))
    follower.join()
    assert seen == [str(number) for number in range(50)]


def test_a_client_resumes_after_the_server_was_killed(server: ChatServer) -> None:
    with connection(server.port) as client:
        publish(client, "before")
        [last] = poll(client, seqid=0)
        server.kill()
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            poll(client, seqid=1)
        server.start()
    with connection(server.port) as client:
        publish(client, "after")
        items = poll(client, seqid=last["seqid"] + 1, epoch=last["epoch"])
        assert [(item["type"], item["msg"]) for item in items][1:] == [("MSG", "after")]
        assert items[0]["type"] == "GAP"


def test_a_reset_connection_harms_nobody(server: ChatServer) -> None:
    query = "/subscribe?channel=room&sname=ann&seqid=0"
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port)) as rude:
            rude.sendall(f"GET {query} HTTP/1.1\r\nHost: h\r\n\r\n".encode() * 3)
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    with connection(server.port) as client:
        publish(client, "still here")
        assert [item["msg"] for item in poll(client, seqid=0)] == ["still here"]


def test_who_sends_too_much_can_read_why_over_tcp(server: ChatServer) -> None:
    # A server that closed at once would reset the connection: the kernel drops what was received.
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as greedy:
            greedy.settimeout(20)
            greedy.sendall(b"POST /publish HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n")
            greedy.sendall(b"x" * 2_000_000)
            assert greedy.recv(12) == b"HTTP/1.1 413"
            while greedy.recv(4096):
                pass


def test_ctrl_c_ends_it_without_a_traceback() -> None:
    chat = run_chat("--port", "0", stderr=subprocess.PIPE)
    with chat, connection(announced_port(chat)) as client:
        publish(client, "hello")
        client.request("GET", "/subscribe?channel=room&sname=ann&seqid=1")  # and it waits
        chat.send_signal(signal.SIGINT)
        _, said = chat.communicate(timeout=20)
    assert (chat.returncode, said) == (0, "")


def test_a_port_in_use_is_said_in_one_line(server: ChatServer) -> None:
    with run_chat("--port", str(server.port), stderr=subprocess.PIPE) as process:
        out, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert out == ""
    assert said.startswith(f"can't serve on 127.0.0.1:{server.port}: ")
    assert said.count("\n") == 1
