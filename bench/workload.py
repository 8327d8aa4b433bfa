"""What a workload is: cases, and how one peer is measured once in one of them.

A workload file defines a subclass and ends with `WORKLOAD = Subclass()`; that is all it takes for
`python -m bench <name>` to exist, interleaved, summarised, compared and written to disk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.registry import Peer

Params = Mapping[str, int | float | str]
Sample = dict[str, float]


@dataclass(frozen=True)
class Metric:
    """One figure of a sample. The first of a workload is the one that ratios compare."""

    key: str
    label: str
    digits: int = 2
    compared: bool = False
    """Has ratio columns of its own, though it isn't the first."""


@dataclass(frozen=True)
class Target:
    """A figure of `of` is to keep these limits: times that of `peer`, or as it stands."""

    peer: str
    """"" for a figure that is compared to nobody's."""
    at_most: float | None = None
    metric: str = ""
    """The key of the metric; "" is the workload's first."""
    at_least: float | None = None
    of: str = "greenpump"

    def met_by(self, figure: float) -> bool:
        enough = self.at_least is None or figure >= self.at_least
        return enough and (self.at_most is None or figure <= self.at_most)


@dataclass(frozen=True)
class Case:
    """One table: the same work for every peer that plays one of `roles`."""

    label: str
    roles: tuple[str, ...]
    params: Params
    targets: tuple[Target, ...] = ()
    lanes: tuple[int, ...] = (1,)
    """On how many cores at once the peers that scale play, in turn."""


@dataclass(frozen=True)
class Bench:
    """Where to measure: a core for the peer and another for the load, or None if there is one."""

    server_cpu: int | None
    load_cpu: int | None
    cores: tuple[int, ...] = ()
    """All there are, for a peer that takes several."""


@dataclass(frozen=True)
class Workload(ABC):
    name: str
    about: str
    metrics: tuple[Metric, ...]
    compared_to: tuple[str, ...]
    """Peers that get a ratio column."""
    notes: tuple[str, ...] = field(default=())
    """Printed under the tables: what a reader has to know to read them right."""

    @abstractmethod
    def add_arguments(self, parser: ArgumentParser) -> None: ...

    @abstractmethod
    def cases(self, args: Namespace) -> Sequence[Case]: ...

    @abstractmethod
    def measure(self, case: Case, peer: Peer, bench: Bench) -> Sample:
        """One sample, from a fresh process. Raises MissingError or FailedError."""
