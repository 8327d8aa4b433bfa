"""Stacks of tasks, without the scheduler's frames."""

from __future__ import annotations

import re

import greenpump as gp
from greenpump.hub.hub import Hub
from greenpump.hub.stacks import describe_task, describe_tasks, frame_of, stack_of
from greenpump.testing import virtual_clock, wait_all_parked


def inner() -> None:
    gp.sleep(10)


def outer() -> None:
    inner()


def functions(task: gp.Task[None]) -> list[str]:
    return [name for _, _, name in stack_of(frame_of(task))]


def test_a_parked_task_ends_at_the_users_last_frame() -> None:
    with virtual_clock():
        task = gp.spawn(outer)
        assert functions(task) == []
        wait_all_parked()
        assert functions(task) == ["outer", "inner"]
        task.join()
        other = gp.spawn(outer)
        wait_all_parked()
        assert other.glet is task.glet  # the same worker runs another task now
        assert functions(task) == []
        assert functions(other) == ["outer", "inner"]
        other.join()


def test_the_running_task() -> None:
    assert gp.spawn(lambda: functions(gp.current())).result()[0] == "<lambda>"
    assert "test_the_running_task" in functions(gp.current())


def test_the_text_of_a_task() -> None:
    with virtual_clock() as clock:
        task = gp.spawn(outer)
        wait_all_parked()
        clock.advance(2.5)
        said = describe_task(task)
        lines = said.splitlines()
        assert re.fullmatch(r"task outer#\d+: sleep for 2\.500 s", lines[0])
        assert lines[1] == f"  spawned at {task.spawned_at()}"
        assert "inner()" in said
        assert "gp.sleep(10)" in said
        assert "greenpump/hub" not in said
        task.join()


def test_the_text_of_all_tasks(hub: Hub) -> None:
    with virtual_clock():
        tasks = [gp.spawn(outer) for _ in range(3)]
        tasks[0].name = "a name"
        wait_all_parked()
        said = describe_tasks(hub)
        assert said.startswith(f"hub of {hub.thread.name}: 4 tasks\n")
        assert "task a name: sleep" in said
        assert said.count("gp.sleep(10)") == 3
        for task in tasks:
            task.join()
