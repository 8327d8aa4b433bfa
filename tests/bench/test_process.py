"""Peers in processes of their own: results, crashes, and libraries that aren't there."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench import build
from bench.outcome import FailedError, MissingError
from bench.process import PeerProcess
from bench.registry import Peer

PATIENCE = 30.0


@dataclass(frozen=True)
class PeerOfTests(Peer):
    @property
    def module(self) -> str:
        return f"tests.bench.{self.name}"


def run(name: str, cpu: int | None = None, **params: str) -> dict[str, object]:
    with PeerProcess(PeerOfTests("test", name, ""), params, cpu) as process:
        return process.result(PATIENCE)


def test_a_library_that_is_not_installed_is_named() -> None:
    with pytest.raises(MissingError) as caught:
        run("absent_peer")
    assert str(caught.value) == (
        "a_library_that_nobody_has (pip install a_library_that_nobody_has)"
    )


def test_a_crash_is_told_with_the_end_of_stderr() -> None:
    with pytest.raises(FailedError) as caught:
        run("crashing_peer", how="raise")
    assert caught.value.reason == "exit status 1: RuntimeError: on purpose"
    assert "Traceback" in caught.value.stderr


def test_a_file_of_the_bench_that_is_missing_is_a_fault_not_a_missing_library() -> None:
    with pytest.raises(FailedError):
        run("crashing_peer", how="import")


def test_the_peer_is_pinned() -> None:
    core = max(os.sched_getaffinity(0))
    assert run("crashing_peer", core, how="not at all") == {"affinity": [core]}


def test_without_a_compiler_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "BUILD", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match=r"gcc \(apt-get install gcc"):
        build.binary("echo_epoll")


def test_without_go_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "BUILD", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match=r"go \(apt-get install golang-go"):
        build.go_binary()


def test_a_program_for_each_set_of_macros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gcc: None
) -> None:
    (tmp_path / "two.c").write_text(
        "#ifdef OTHER\nint main(void) { return 7; }\n#else\nint main(void) { return 3; }\n#endif\n"
    )
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    monkeypatch.setattr(build, "BUILD", tmp_path)
    programs = [build.binary("two"), build.binary("two", define=["OTHER"])]
    assert [subprocess.run([each], check=False).returncode for each in programs] == [3, 7]


def test_a_header_that_is_not_there_names_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gcc: None
) -> None:
    (tmp_path / "needy.c").write_text("#include <nobody/has_this.h>\n")
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    monkeypatch.setattr(build, "BUILD", tmp_path)
    with pytest.raises(MissingError, match="libnobody-dev"):
        build.binary("needy", needs="libnobody-dev")


def test_a_source_that_does_not_compile_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gcc: None
) -> None:
    (tmp_path / "broken.c").write_text("int main( {\n")
    monkeypatch.setattr(build, "SOURCES", tmp_path)
    monkeypatch.setattr(build, "BUILD", tmp_path)
    with pytest.raises(FailedError, match=r"broken\.c"):
        build.binary("broken", needs="libnobody-dev")
    assert [path.name for path in tmp_path.iterdir()] == ["broken.c"]
