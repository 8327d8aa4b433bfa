"""Runs a workload: rounds interleaved over the peers, so that a slow minute hits all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence

from bench.outcome import FailedError, MissingError
from bench.registry import Peer, peers
from bench.summary import CaseResult, PeerResult
from bench.workload import Bench, Case, Workload

Progress = Callable[[str], None]


def pick_cores() -> Bench:
    """The first core allowed to us for the peer, the second for the load, if there are two."""
    cores = tuple(sorted(os.sched_getaffinity(0)))
    return Bench(cores[0], cores[1], cores) if len(cores) > 1 else Bench(None, None)


def run_case(
    workload: Workload,
    case: Case,
    contestants: Sequence[Peer],
    repeats: int,
    bench: Bench,
    progress: Progress,
) -> CaseResult:
    """`repeats` rounds of A B C. One that is missing or fails is out; the others go on."""
    results = [(peer, PeerResult(peer.name, peer.about)) for peer in contestants]
    for round_number in range(1, repeats + 1):
        for peer, result in results:
            if result.status != "ok":
                continue
            try:
                sample = workload.measure(case, peer, bench)
            except MissingError as error:
                result.status, result.problem = "missing", str(error)
            except FailedError as error:
                result.status, result.problem = "failed", error.reason
                result.stderr = error.stderr
            else:
                result.samples.append(sample)
            progress(
                f"{case.label}, round {round_number}/{repeats}: {peer.name} "
                f"{_outcome(workload, result)}"
            )
    return CaseResult(case, [result for _, result in results])


def chosen(case: Case, names: Collection[str] | None) -> list[Peer]:
    """The peers of a case, or those of them that were asked for by name."""
    everyone = [
        peer.on(lanes)
        for peer in peers(case.roles)
        for lanes in (case.lanes if peer.scales_by else (1,))
    ]
    return [peer for peer in everyone if names is None or peer.name in names]


def _outcome(workload: Workload, result: PeerResult) -> str:
    if result.status != "ok":
        return f"{result.status}: {result.problem}"
    metric = workload.metrics[0]
    return f"{result.samples[-1][metric.key]:.{metric.digits}f} {metric.label}"
