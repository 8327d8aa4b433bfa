"""The hook for errors that nobody waits for."""

from __future__ import annotations

import sys

import pytest

import greenpump as gp
from greenpump.hub.report import excepthook
from greenpump.testing import wait_all_parked


def fail(what: str) -> None:
    raise KeyError(what)


def test_the_default_prints_name_spawn_site_and_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    task = gp.spawn(fail, "lost")
    task.name = "the unlucky one"
    task.join()
    said = capsys.readouterr().err
    assert said.startswith(f"Unhandled error in task the unlucky one, spawned at {__file__}:")
    assert said.endswith("KeyError: 'lost'\n")
    assert "in fail" in said
    assert "greenpump/hub" not in said


def test_a_hook_of_the_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []
    monkeypatch.setattr(gp, "excepthook", lambda task, error: seen.append((task, error)))
    task = gp.spawn(fail, "lost")
    task.join()
    assert seen == [(task, task.error)]
    assert capsys.readouterr().err == ""


def test_a_hook_that_fails_loses_neither_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gp, "excepthook", lambda task, error: fail("the hook's"))
    gp.spawn(fail, "the task's").join()
    said = capsys.readouterr().err
    assert 'KeyError: "the task\'s"' in said
    assert 'KeyError: "the hook\'s"' in said
    assert gp.spawn(int).result() == 0


def test_a_hook_that_ends_the_program_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gp, "excepthook", lambda task, error: sys.exit("enough"))
    gp.spawn(fail, "lost")
    with pytest.raises(SystemExit, match="enough"):
        gp.sleep(30)


def test_without_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    gp.spawn(fail, "lost")
    wait_all_parked()


def test_a_group_of_errors_is_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    excepthook(gp.current(), ExceptionGroup("several", [KeyError("one"), ValueError("two")]))
    said = capsys.readouterr().err
    assert "KeyError: 'one'" in said
    assert "ValueError: two" in said
