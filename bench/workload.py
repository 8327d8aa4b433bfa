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


@dataclass(frozen=True)
class Target:
    """greenpump's figure is to be at most `at_most`: times that of `peer`, or as it stands."""

    peer: str
    """"" for a figure that is compared to nobody's."""
    at_most: float
    metric: str = ""
    """The key of the metric; "" is the workload's first."""


@dataclass(frozen=True)
class Case:
    """One table: the same work for every peer that plays one of `roles`."""

    label: str
    roles: tuple[str, ...]
    params: Params
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True)
class Bench:
    """Where to measure: a core for the peer and another for the load, or None if there is one."""

    server_cpu: int | None
    load_cpu: int | None


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
