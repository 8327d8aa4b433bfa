"""README.md and docs/: every block of Python in them runs and leaks nothing.

The README's blocks also print what their comments promise. Each runs in a process of its own, with
warnings as errors. What a finaliser has to say (an unclosed socket, an error nobody took) shows on
stderr, which must be empty but where the text says so.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
SERVER, *TOUR = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
PROMISE = re.compile(r"^ *print\(.*\) +# (.*)$", re.MULTILINE)

# Serves on a free port in place of the README's, and says which it is.
ON_A_FREE_PORT = """
import sys, greenpump
def serve(handler, addr, *, serve=greenpump.serve, **options):
    listener = greenpump.listen((addr[0], 0))
    print(listener.getsockname()[1], flush=True)
    serve(handler, listener, **options)
greenpump.serve = serve
exec(compile(sys.argv[1], "README.md", "exec"), {"__name__": "__main__"})
"""


def python(*arguments: str) -> list[str]:
    return [sys.executable, "-X", "dev", "-W", "error", *arguments]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


# -- the echo server -----------------------------------------------------------------------------


def test_the_server_has_fifteen_lines() -> None:
    assert len([line for line in SERVER.splitlines() if line]) <= 15


def test_the_server_echoes_to_many_at_once_and_ends_by_ctrl_c() -> None:
    process = subprocess.Popen(
        python("-c", ON_A_FREE_PORT, SERVER),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        clients = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(50)]
        try:
            for number, client in enumerate(clients):
                client.sendall(b"number %d, " % number)
            for number, client in enumerate(clients):
                client.sendall(b"again")
                client.shutdown(socket.SHUT_WR)
                assert read_all(client) == b"number %d, again" % number
        finally:
            for client in clients:
                client.close()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGINT
    assert output == ""
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_the_server_says_whose_connection_failed() -> None:
    process = subprocess.Popen(
        python("-u", "-c", ON_A_FREE_PORT, SERVER), env=environment(), stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), 30) as client:
            mine = client.getsockname()
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert select.select([process.stdout], [], [], 30)[0]
        line = process.stdout.readline().decode()
        assert line.startswith(f"{mine} [Errno 104]")
        with socket.create_connection(("127.0.0.1", port), 30) as client:
            client.sendall(b"still there")
            assert client.recv(100) == b"still there"
    finally:
        process.kill()
        process.communicate()


def read_all(client: socket.socket) -> bytes:
    pieces = []
    while piece := client.recv(4096):
        pieces.append(piece)
    return b"".join(pieces)


# -- the tour ------------------------------------------------------------------------------------


def titles() -> list[str]:
    found: list[str] = []
    title = ""
    for line in TEXT.partition("## Tour")[2].splitlines():
        if line.startswith("### "):
            title = line.removeprefix("### ")
        elif line == "```python":
            found.append(title if title not in found else f"{title}, {found.count(title) + 1}")
    return found


@pytest.mark.parametrize("block", TOUR, ids=titles())
def test_a_block_prints_what_its_comments_promise(block: str) -> None:
    promised = PROMISE.findall(block)
    assert len(promised) == block.count("print("), "a print without its comment"
    done = subprocess.run(
        python("-c", block), env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == " ".join(promised).split()
    if "forty-two" in block:
        line = 1 + next(n for n, line in enumerate(block.splitlines()) if "forty-two" in line)
        head = f"Unhandled error in task int#1, spawned at <string>:{line} in <module>\n"
        assert done.stderr.startswith(head + "ValueError: ")
    else:
        assert done.stderr == ""


# -- docs/ ---------------------------------------------------------------------------------------


def blocks_of(document: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)


DOCS = [
    pytest.param(block, id=f"{document.name}, {number}")
    for document in sorted((ROOT / "docs").glob("*.md"))
    for number, block in enumerate(blocks_of(document), 1)
]


@pytest.mark.parametrize("block", DOCS)
def test_a_block_of_the_docs_runs_as_it_stands(block: str) -> None:
    done = subprocess.run(
        python("-c", block), env=environment(), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_tests_in_the_docs_end_as_the_docs_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GREENPUMP_SEED", "GREENPUMP_SEEDS"):
        monkeypatch.delenv(name, raising=False)
    silent, office = blocks_of(ROOT / "docs/testing.md")
    names: dict[str, Any] = {}
    exec(silent, names)
    names["test_a_silent_peer_is_given_up_after_30_seconds"]()
    exec(office.replace("@races(seeds=200)\n", ""), names)
    names["test_no_seat_is_sold_twice"]()
    exec(office, names)
    with pytest.raises(AssertionError, match="4 sold of 3") as caught:
        names["test_no_seat_is_sold_twice"]()
    notes = "\n".join(caught.value.__notes__)
    assert notes.startswith("seed 0; to replay it: GREENPUMP_SEED=0")
    assert "\n20 steps, the last: " in notes


# -- what the documents refer to -----------------------------------------------------------------

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "bench/README.md",
    ROOT / "examples/README.md",
    *(ROOT / "docs").glob("*.md"),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_refers_to_is_there(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / target).exists(), target
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        assert anchor in [each.lower().replace(" ", "-") for each in headings], anchor
    for file, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text):
        assert f"def {test}" in (ROOT / file).read_text(), (file, test)
    for module in re.findall(r"`((?:hub|net|sync|debug|sys)/\w+\.py)`", text):
        assert (ROOT / "greenpump" / module).exists(), module
