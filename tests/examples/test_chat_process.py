"""``python -m examples.chat``: real sockets, the stdlib's client, and a server that is killed."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from examples.chat import tokens
from tests.examples.chat_server import ROOT, ChatServer, announced_port, run_chat
from tests.examples.redis_server import RedisServer
from tests.net.tls.certificates import Certificates


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer("--rate", "1e6") as server:
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


def test_a_port_that_is_none_is_said_in_one_line() -> None:
    with run_chat("--port", "99999", stderr=subprocess.PIPE) as process:
        _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert said.count("\n") == 1


def test_an_ipv6_address_is_told_as_urls_have_it() -> None:
    with run_chat("--port", "0", "--host", "::1", stderr=subprocess.PIPE) as chat:
        assert chat.stdout is not None
        said = chat.stdout.readline()
        chat.terminate()
    assert re.match(r"The chat is at http://\[::1\]:\d+ ", said)


def test_sigterm_sends_clients_away_and_ends_it() -> None:
    chat = run_chat("--port", "0", stderr=subprocess.PIPE)
    with chat, socket.create_connection(("127.0.0.1", announced_port(chat))) as client:
        client.settimeout(20)
        client.sendall(b"GET /stream?channel=room HTTP/1.1\r\nHost: h\r\n\r\n")
        stream = client.makefile("rb")
        while not stream.readline().startswith(b"retry: "):
            pass
        chat.send_signal(signal.SIGTERM)
        assert re.fullmatch(rb"\nretry: \d+\n\n", stream.read())
        stream.close()
        _, said = chat.communicate(timeout=20)
    assert (chat.returncode, said) == (0, "")


def test_processes_share_one_redis(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        chat = run_chat("--port", "0", "--store", redis.url, "--processes", "2")
        with chat:
            port = announced_port(chat)
            clients = [http.client.HTTPConnection("127.0.0.1", port, timeout=20) for _ in range(12)]
            for number, client in enumerate(clients):  # the kernel spreads them
                publish(client, str(number))
            for client in clients:
                assert len(poll(client, seqid=0)) == 12
            for client in clients:
                client.request("GET", "/subscribe?channel=room&sname=ann&seqid=12")
            publish_with_new_connection(port, "to all")
            for client in clients:
                assert json.loads(client.getresponse().read())[0]["msg"] == "to all"
                client.close()
            chat.send_signal(signal.SIGTERM)
            assert chat.wait(timeout=20) == 0


def test_each_process_tells_of_all(tmp_path: Path) -> None:
    def get(path: str) -> str:
        with connection(port) as client:
            client.request("GET", path)
            return client.getresponse().read().decode()

    def until(path: str, condition: Callable[[str], bool]) -> str:
        deadline = time.monotonic() + 20
        while not condition(answer := get(path)):
            assert time.monotonic() < deadline, answer
            time.sleep(0.02)
        return answer

    with (
        RedisServer(tmp_path) as redis,
        run_chat("--port", "0", "--store", redis.url, "--processes", "2") as chat,
        ExitStack() as open_streams,
    ):
        port = announced_port(chat)
        for _ in range(12):  # the kernel spreads them
            client = open_streams.enter_context(connection(port))
            client.request("GET", "/stream?channel=room")
            open_streams.enter_context(client.getresponse())
        numbers = json.loads(until("/stats", lambda text: json.loads(text)["subscribers"] == 12))
        counts = {pid: each["subscribers"] for pid, each in numbers["processes"].items()}
        assert len(counts) == 2
        assert sum(counts.values()) == 12
        lines = [f'chat_subscribers{{process="{pid}"}} {n:.1f}\n' for pid, n in counts.items()]
        text = until("/metrics", lambda text: all(line in text for line in lines))
        assert text.count("chat_published_total{process=") == 2
        dead = min(counts)
        os.kill(int(dead), signal.SIGKILL)
        until("/stats", lambda text: dead not in json.loads(text)["processes"])
        chat.send_signal(signal.SIGTERM)
        assert chat.wait(timeout=20) == 0


def publish_with_new_connection(port: int, msg: str) -> None:
    with connection(port) as client:
        publish(client, msg)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--processes", "2"), "processes need a store that they can share"),
        (("--processes", "2", "--store", "rediss://x"), "processes need a store"),
        (("--store", "postgres://x"), "no such store"),
        (("--store", "sqlite:/no/such/folder/chat.db"), "unable to open database file"),
        (("--tls-cert", "/no/such/file"), "No such file"),
    ],
)
def test_what_can_not_be_is_said_in_one_line(options: tuple[str, ...], complaint: str) -> None:
    with run_chat("--port", "0", *options, stderr=subprocess.PIPE) as process:
        _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert complaint in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    ["--hubs 0", "--processes -1", "--history 0", "--rate nan", "--burst 0", "--poll-seconds 3601"],
)
def test_a_number_that_makes_no_chat_is_refused(options: str) -> None:
    with run_chat("--port", "0", *options.split(), stderr=subprocess.PIPE) as process:
        _, said = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "is not above 0" in said.splitlines()[-1]


def test_by_tls(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    certificate, key = certificates.issue("127.0.0.1")
    options = ("--tls-cert", str(certificate), "--tls-key", str(key), "--rate", "1e6")
    with run_chat("--port", "0", *options) as chat:
        port = announced_port(chat)
        context = certificates.client()
        context.set_alpn_protocols(["h2", "http/1.1"])
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.settimeout(20)
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as conn:
                assert conn.selected_alpn_protocol() == "http/1.1"
                conn.sendall(b"GET /stream?channel=room HTTP/1.1\r\nHost: h\r\n\r\n")
                stream = conn.makefile("rb")
                while not stream.readline().startswith(b"retry: "):
                    pass
                client = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
                with closing(client):
                    for number in range(300):
                        publish(client, f"{number} {'x' * 400}")
                    said: list[str] = []
                    while len(said) < 300:
                        line = stream.readline()
                        if line.startswith(b"data: "):
                            said.append(json.loads(line.removeprefix(b"data: "))["msg"].split()[0])
                    assert said == [str(number) for number in range(300)]
                    assert len(poll(client, seqid=0)) == 200
                stream.close()
        chat.send_signal(signal.SIGTERM)
        assert chat.wait(timeout=20) == 0


def test_a_token_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_SECRET", "s")
    command = [sys.executable, "-m", "examples.chat.tokens", "--channel", "room", "--sname", "ann"]
    token = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tokens.check("s", token.strip(), "room", "ann")
