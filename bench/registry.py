"""Which peers and workloads there are: the files in `bench/peers/` and `bench/workloads/`.

Peers are found by file name and read without being imported, so that a peer whose library isn't
installed is still listed (and then named as missing).
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
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

    @property
    def module(self) -> str:
        return f"bench.peers.{self.role}_{self.name}"


def peers(roles: Sequence[str]) -> list[Peer]:
    """Every peer that plays one of `roles`, by name."""
    found = []
    for role in roles:
        for path in sorted(PEERS.glob(f"{role}_*.py")):
            doc = ast.get_docstring(ast.parse(path.read_text())) or ""
            name = path.stem.removeprefix(f"{role}_")
            found.append(Peer(role, name, doc.partition("\n")[0].rstrip(".")))
    return found


def all_workloads() -> dict[str, Workload]:
    found = {}
    for module_info in pkgutil.iter_modules(workloads.__path__):
        module = importlib.import_module(f"{workloads.__name__}.{module_info.name}")
        workload: Workload = module.WORKLOAD
        found[workload.name] = workload
    return found
