"""Which peers and workloads there are: the files in `bench/peers/` and `bench/workloads/`.

Peers are found by file name and read without being imported, so that a peer whose library isn't
installed is still listed (and then named as missing). What a file has to say beside its docstring:

    INTERPRETER = "freethreaded"  # which Python runs it (interpreters.py); without it, this one
    SCALES_BY = "processes"       # or "hubs": it is also played on several cores at once
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench import workloads
from bench.workload import Workload

PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Peer:
    """One contestant in one role: `bench/peers/<role>_<name>.py`."""

    role: str
    name: str
    about: str
    interpreter: str = ""
    scales_by: str = ""
    lanes: int = 1
    """How many of what it scales by; the workload starts the processes, `run` the hubs."""
    single: str = ""
    """Its name on one lane, if it has more."""

    @property
    def module(self) -> str:
        return f"bench.peers.{self.role}_{self.single or self.name}"

    def on(self, lanes: int) -> Peer:
        """The same on so many cores: another contestant, with a name of its own."""
        if lanes == 1:
            return self
        return replace(
            self,
            name=f"{self.name}_{lanes}{self.scales_by}",
            about=f"{self.about}, in {lanes} {self.scales_by} on {lanes} cores",
            lanes=lanes,
            single=self.name,
        )


def peers(roles: Sequence[str]) -> list[Peer]:
    """Every peer that plays one of `roles`, by name."""
    found = []
    for role in roles:
        for path in sorted(PEERS.glob(f"{role}_*.py")):
            tree = ast.parse(path.read_text())
            doc = ast.get_docstring(tree) or ""
            name = path.stem.removeprefix(f"{role}_")
            about = doc.partition("\n")[0].rstrip(".")
            found.append(
                Peer(role, name, about, _said(tree, "INTERPRETER"), _said(tree, "SCALES_BY"))
            )
    return found


def _said(tree: ast.Module, name: str) -> str:
    """What the module assigns to `name` at its top level, or an empty string."""
    for statement in tree.body:
        match statement:
            case ast.Assign([ast.Name(id)], ast.Constant(str(value))) if id == name:
                return value
    return ""


def all_workloads() -> dict[str, Workload]:
    found = {}
    for module_info in pkgutil.iter_modules(workloads.__path__):
        module = importlib.import_module(f"{workloads.__name__}.{module_info.name}")
        workload: Workload = module.WORKLOAD
        found[workload.name] = workload
    return found
