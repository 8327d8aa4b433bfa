"""The import rule: which folder of greenpump may know which (docs/design.md, "Floors").

A module may import from its own part of the tree and from lower floors: never upward, never
sideways. So the kernel bindings never learn of scheduling, the scheduler never learns of channels,
and each part can be read, tested and replaced with only what lies below it in mind.

All of it is read off the source by `ast`; nothing is imported. Imports inside functions and under
TYPE_CHECKING count as well: a module that needs a higher one's types knows that higher one. What is
allowed beyond the rule stands in ALLOWED, with its reason.
"""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "greenpump"

# The first name below greenpump -> its floor. A new part of the tree gets its line here.
FLOORS = {
    "errors": 0,
    "sys": 0,
    "hub": 1,
    "sync": 2,
    "net": 2,
    "offload": 2,
    "process": 2,
    "signals": 2,
    "files": 2,
    "monkey": 3,
    "debug": 3,
    "interop": 3,
    "testing": 3,
    "__init__": 4,  # greenpump/__init__.py
    "__main__": 5,  # python -m greenpump
}

# (who, whom, why): what may be imported sideways. A name covers all that lies below it.
ALLOWED = [
    ("net", "offload", "the system's resolver only blocks, so names are looked up in threads"),
    ("files", "offload", "epoll refuses regular files (EPERM), so they are read in threads"),
    ("files", "sync", "a channel with one place is what their calls take turns by"),
    ("process", "files", "a child's pipes are files as others"),
    ("signals", "sync", "signals arrive on a channel, so that a select takes them"),
]

# module -> what it may import beyond the standard library and greenlet. Only a module that nothing
# else in greenpump imports may stand here: greenpump runs with greenlet alone.
OPTIONAL: dict[str, set[str]] = {}

# A module, or a folder for all its modules -> why no test file mirrors it.
NO_TEST_FILE = {
    "greenpump.errors": "declarations; each is tested where it is raised",
}


# -- reading sources -----------------------------------------------------------------------------


class Import(NamedTuple):
    module: str  # who imports
    target: str  # the module that is imported
    line: int
    at_import: bool  # runs when the module is imported: at its top level and not for typing alone

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def read_sources() -> dict[str, str]:
    """Dotted module name -> source; a package is called by the name of its __init__ module."""
    sources = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        sources[".".join(path.relative_to(ROOT).with_suffix("").parts)] = path.read_text()
    return sources


def is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def import_nodes(node: ast.AST, at_import: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Each node that imports, and whether it runs when its module is imported."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Call):
        yield node, at_import
    child: ast.AST
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        at_import = False
    if isinstance(node, ast.If) and is_type_checking(node.test):
        for child in node.body:
            yield from import_nodes(child, False)
        for child in node.orelse:
            yield from import_nodes(child, at_import)
        return
    for child in ast.iter_child_nodes(node):
        yield from import_nodes(child, at_import)


def imported_names(node: ast.AST, module: str) -> Iterator[tuple[str, list[str]]]:
    """What a node imports: a dotted name, and the names taken from it (none for a whole module)."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, []
    elif isinstance(node, ast.ImportFrom):
        name = node.module or ""
        if node.level:
            # The last part is the module itself (or __init__), one more level is one package up.
            parents = module.split(".")[: -node.level]
            name = ".".join([*parents, name] if name else parents)
        yield name, [alias.name for alias in node.names]
    elif isinstance(node, ast.Call) and node.args:
        called = node.func
        by_name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if by_name in ("import_module", "__import__"):
            match node.args[0]:
                case ast.Constant(value=str(name)):
                    yield name, []


def find_imports(sources: dict[str, str]) -> list[Import]:
    """Every import of every module. Names within greenpump are resolved to the module meant:
    `from greenpump.hub import task` means greenpump.hub.task if that is a module, and what
    greenpump/hub/__init__.py calls `task` otherwise."""

    def resolve(name: str) -> str:
        if name.split(".")[0] != PACKAGE or name in sources:
            return name
        return f"{name}.__init__" if f"{name}.__init__" in sources else name

    found = []
    for module, source in sources.items():
        for node, at_import in import_nodes(ast.parse(source)):
            for name, taken in imported_names(node, module):
                targets = {
                    f"{name}.{each}" if resolve(f"{name}.{each}") in sources else name
                    for each in taken
                } or {name}
                line = getattr(node, "lineno", 0)
                found += [Import(module, resolve(t), line, at_import) for t in sorted(targets)]
    return found


# -- the rules -----------------------------------------------------------------------------------


def part(module: str) -> str:
    """The part of the tree a module belongs to: the first name below greenpump."""
    return [*module.split("."), "__init__"][1]


def covers(name: str, module: str) -> bool:
    return f"{module}.".startswith(f"{PACKAGE}.{name}.")


def is_allowed(found: Import) -> bool:
    mine, other = part(found.module), part(found.target)
    return (
        mine == other
        or FLOORS[other] < FLOORS[mine]
        or any(covers(who, found.module) and covers(whom, found.target) for who, whom, _ in ALLOWED)
    )


def floor_violations(sources: dict[str, str]) -> list[str]:
    unknown = sorted({part(module) for module in sources} - FLOORS.keys())
    if unknown:
        return [f"greenpump/{name} has no floor: add it to FLOORS" for name in unknown]
    said = []
    for found in find_imports(sources):
        if found.target.split(".")[0] != PACKAGE:
            if found.module == f"{PACKAGE}.errors" and found.target != "__future__":
                said.append(f"{found}: errors imports nothing")
        elif part(found.target) not in FLOORS:
            said.append(f"{found}, which does not exist")
        elif not is_allowed(found):
            mine, other = FLOORS[part(found.module)], FLOORS[part(found.target)]
            said.append(
                f"{found}: from floor {mine} {'up to' if other > mine else 'across'} {other}"
            )
    return said


def cycles(sources: dict[str, str]) -> list[str]:
    """Modules that need each other to be imported first: they work or not by who comes first."""
    graph: dict[str, set[str]] = {module: set() for module in sources}
    for found in find_imports(sources):
        if found.at_import and found.target in sources:
            graph[found.module].add(found.target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [" <- ".join(error.args[1])]
    return []


def foreign_imports(sources: dict[str, str]) -> list[str]:
    known = sys.stdlib_module_names | {PACKAGE, "greenlet"}
    return [
        str(found)
        for found in find_imports(sources)
        if found.target.split(".")[0] not in known | OPTIONAL.get(found.module, set())
    ]


def front_violations(source: str) -> list[str]:
    """greenpump/__init__.py is the public names, nothing else."""
    said = []
    for index, node in enumerate(ast.parse(source).body):
        fine = (
            (index == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
            or (
                isinstance(node, ast.ImportFrom)
                and (
                    node.level == 1 or (node.module or "").split(".")[0] in (PACKAGE, "__future__")
                )
                and all(alias.name != "*" for alias in node.names)
            )
            or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")
        )
        if not fine:
            said.append(f"greenpump/__init__.py:{node.lineno} is more than a re-export")
    return said


def unmirrored(modules: list[str], tests: set[str]) -> list[str]:
    """The modules without their test file, and the exceptions that are not needed any more."""
    missing = {}
    for module in modules:
        *folders, name = module.split(".")[1:]
        test = "/".join(["tests", *folders, f"test_{name}.py"])
        if name not in ("__init__", "__main__") and test not in tests:
            missing[module] = test

    def rows(modules: Iterable[str]) -> set[str]:
        return {
            row for row in NO_TEST_FILE for module in modules if f"{module}.".startswith(f"{row}.")
        }

    said = [f"{module} has no {test}" for module, test in missing.items() if not rows([module])]
    unused = rows(modules) - rows(missing)
    return said + [f"{row} needs no line in NO_TEST_FILE" for row in sorted(unused)]


# -- greenpump keeps them ------------------------------------------------------------------------


def test_no_module_imports_from_its_own_floor_or_above() -> None:
    found = floor_violations(read_sources())
    assert not found, "\n".join(found)


def test_no_module_needs_itself_to_be_imported() -> None:
    assert cycles(read_sources()) == []


def test_greenlet_is_the_only_dependency() -> None:
    assert foreign_imports(read_sources()) == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [spec[: len("greenlet")] for spec in project["dependencies"]] == ["greenlet"]


def test_the_front_only_re_exports() -> None:
    assert front_violations(read_sources().get("greenpump.__init__", "")) == []


def test_each_module_has_its_test_file() -> None:
    tests = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")}
    found = unmirrored(list(read_sources()), tests)
    assert not found, "\n".join(found)


# -- and each rule can be broken -----------------------------------------------------------------

TREE = dict.fromkeys(
    [
        "greenpump.__init__",
        "greenpump.__main__",
        "greenpump.errors",
        "greenpump.sys.__init__",
        "greenpump.sys.epoll",
        "greenpump.sys.libc",
        "greenpump.hub.__init__",
        "greenpump.hub.hub",
        "greenpump.hub.task",
        "greenpump.sync.channel",
        "greenpump.net.dns",
        "greenpump.net.socket",
        "greenpump.offload",
        "greenpump.debug.dump",
        "greenpump.testing",
    ],
    "",
)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("errors", "import os"),
        ("errors", "from greenpump.sys import epoll"),
        ("sys.epoll", "from greenpump.errors import HubError"),
        ("sys.epoll", "import greenpump.hub.hub as h"),
        ("sys.epoll", "from greenpump import errors"),
        ("hub.hub", "from ..sync import channel"),
        ("hub.hub", "from ..sync.channel import Channel"),
        ("hub.hub", "def f():\n    from greenpump.net.socket import Socket"),
        ("hub.hub", "try:\n    import greenpump.debug.dump\nexcept ImportError:\n    pass"),
        ("hub.hub", "import importlib\nimportlib.import_module('greenpump.sync.channel')"),
        ("hub.hub", "if TYPE_CHECKING:\n    from greenpump.sync.channel import Channel"),
        ("hub.hub", "if typing.TYPE_CHECKING:\n    from greenpump.sync.channel import Channel"),
        ("hub.__init__", "from .. import offload"),
        ("hub.hub", "from greenpump import Channel"),
        ("hub.hub", "import greenpump"),
        ("sync.channel", "from greenpump.net.socket import Socket"),
        ("net.socket", "from greenpump.sync.channel import Channel"),
        ("sync.channel", "import greenpump.offload"),
        ("offload", "import greenpump.net.dns"),
        ("debug.dump", "from greenpump import testing"),
        ("testing", "from greenpump.nowhere import x"),
        ("newcomer.thing", ""),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str) -> None:
    found = floor_violations(TREE | {f"greenpump.{module}": source})
    assert len(found) == 1
    assert module.split(".")[0] in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("errors", "from __future__ import annotations"),
        (
            "sys.epoll",
            "import os, ctypes\nfrom greenpump.sys.libc import check\nfrom . import libc",
        ),
        (
            "hub.hub",
            "from greenpump import errors\nfrom ..sys import epoll\nfrom .task import Task",
        ),
        ("hub.hub", "import greenpump.sys.epoll\nfrom greenpump.sys import EpollError"),
        ("sync.channel", "from greenpump.hub import task, current"),
        ("net.dns", "from greenpump import offload"),
        ("debug.dump", "from greenpump.net.socket import Socket\nfrom .. import offload"),
        ("__init__", "from greenpump.debug.dump import dump\nfrom greenpump.testing import clock"),
        ("__main__", "import greenpump"),
    ],
)
def test_an_allowed_import_is_not(module: str, source: str) -> None:
    assert floor_violations(TREE | {f"greenpump.{module}": source}) == []


@pytest.mark.parametrize(
    "two", ["import greenpump.hub.hub", "from . import hub", "from .hub import Hub"]
)
def test_a_cycle_is_found(two: str) -> None:
    one = "from greenpump.hub.task import Task"
    [cycle] = cycles(TREE | {"greenpump.hub.hub": one, "greenpump.hub.task": two})
    assert set(cycle.split(" <- ")) == {"greenpump.hub.hub", "greenpump.hub.task"}


def test_a_package_that_imports_its_importer_is_a_cycle() -> None:
    tree = TREE | {
        "greenpump.hub.__init__": "from greenpump.hub.hub import Hub",
        "greenpump.hub.hub": "from greenpump.hub import Task",
    }
    [cycle] = cycles(tree)
    assert set(cycle.split(" <- ")) == {"greenpump.hub.__init__", "greenpump.hub.hub"}


@pytest.mark.parametrize(
    "two",
    [
        "def f():\n    from greenpump.hub.hub import Hub",
        "if TYPE_CHECKING:\n    from greenpump.hub.hub import Hub",
    ],
)
def test_an_import_that_waits_closes_no_cycle(two: str) -> None:
    one = "from greenpump.hub.task import Task"
    assert cycles(TREE | {"greenpump.hub.hub": one, "greenpump.hub.task": two}) == []


def test_a_foreign_import_is_found() -> None:
    tree = TREE | {
        "greenpump.hub.hub": "from greenlet import greenlet\nimport os.path",
        "greenpump.net.dns": "def f():\n    import dns.resolver",
        "greenpump.testing": "if TYPE_CHECKING:\n    from pytest import Item",
    }
    assert foreign_imports(tree) == [
        "greenpump.net.dns:2 imports dns.resolver",
        "greenpump.testing:2 imports pytest",
    ]


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "from os import path",
        "from greenpump.hub.task import *",
        "VERSION = 1",
        "def f(): pass",
        "print('hello')",
        "if True:\n    from greenpump.hub.task import Task",
    ],
)
def test_a_front_that_does_more_is_found(source: str) -> None:
    fine = '"""Names."""\nfrom .hub.task import Task\n__all__ = ["Task"]\n'
    assert front_violations(fine) == []
    assert front_violations(fine + source) == ["greenpump/__init__.py:4 is more than a re-export"]


def test_a_module_without_its_test_file_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "NO_TEST_FILE", {"greenpump.errors": "", "greenpump.net": ""})
    modules = ["greenpump.hub.__init__", "greenpump.hub.hub", "greenpump.hub.task"]
    modules += ["greenpump.files", "greenpump.errors", "greenpump.net.dns", "greenpump.net.tls"]
    assert unmirrored(modules, {"tests/hub/test_hub.py", "tests/net/test_tls.py"}) == [
        "greenpump.hub.task has no tests/hub/test_task.py",
        "greenpump.files has no tests/test_files.py",
    ]
    tests = {f"tests/net/test_{name}.py" for name in ("dns", "tls")}
    assert unmirrored(["greenpump.net.dns", "greenpump.net.tls", "greenpump.errors"], tests) == [
        "greenpump.net needs no line in NO_TEST_FILE"
    ]


def test_what_is_slow_to_load_is_loaded_when_it_is_used() -> None:
    code = "import greenpump, sys; print({'ssl', 'asyncio', 'concurrent.futures'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("set()\n", "")
